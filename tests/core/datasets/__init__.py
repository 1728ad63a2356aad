"""Tests of prepared sets."""
