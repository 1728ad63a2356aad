"""Upstream's experiment folder (``logs/NAME``): reading and writing."""
