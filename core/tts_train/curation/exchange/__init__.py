"""Corpora in and out of a corpus folder: merging, splitting, and writing every layout that is read."""
