"""Decoding of recordings: containers, length checks, channels and levels."""
