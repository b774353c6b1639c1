"""Drawn worlds, and how networks of theirs are made: what the recipes of avatars and cats share."""
