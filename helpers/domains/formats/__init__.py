"""Weights on disk <-> networks, a file per format: read as data, nothing is executed."""
