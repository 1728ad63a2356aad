"""Callbacks that measure a run: throughput, history, progress, baseline and live report."""
