"""Tests of the Orpheus plugin."""
