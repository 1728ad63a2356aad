"""Tests of the readers of foreign weights files."""
