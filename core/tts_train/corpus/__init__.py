"""Reads recordings with their text, and accounts for every row."""
