"""Tests of metrics and of the comparison of sources."""
