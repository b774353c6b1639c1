"""Kittens after David Revoy's layers (CC BY 4.0); see README.md."""
