"""Proof-reading a corpus folder: a table and a page sorted by suspicion, and what a person changed brought back."""
