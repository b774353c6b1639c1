"""The three methods, as the notebooks teach them: `make export` writes these modules from the
notebooks' cells."""
