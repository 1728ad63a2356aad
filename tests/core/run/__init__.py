"""Tests of runs: checkpoints, continuation, locks, stopping."""
