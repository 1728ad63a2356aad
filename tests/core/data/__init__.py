"""Tests of prepared data and batch plans."""
