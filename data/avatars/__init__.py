"""The avatars: a small cartoon domain that needs no download; see README.md."""
