"""One module for each family of corpus layouts."""
