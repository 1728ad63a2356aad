"""Tests of training runs and their callbacks."""
