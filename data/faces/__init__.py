"""The faces: photographs at 1024 px, drawn by a light generator; see README.md."""
