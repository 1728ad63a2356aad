"""Tests of reading files that somebody else wrote."""
