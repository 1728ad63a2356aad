"""Sampling of tokens: attention over a static cache, and random numbers that are the same on every device."""
