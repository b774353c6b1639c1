"""The embedded domains, and the recipes that made their networks; see README.md."""
