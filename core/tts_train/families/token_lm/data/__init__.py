"""Prepared rows of ids, and batches of them."""
