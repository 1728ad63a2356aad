"""Tests of optimisers and schedules."""
