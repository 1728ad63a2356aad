"""The demo: a sample voice that ships with the package, and the way from its recordings to a sound."""
