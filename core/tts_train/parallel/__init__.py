"""Processes and devices: ranks, worker pools, signals and failing together."""
