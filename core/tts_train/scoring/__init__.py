"""Scores of what a model says: one module a metric, and the comparison of sources on the same sentences."""
