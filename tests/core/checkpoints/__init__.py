"""Tests of checkpoints on disk."""
