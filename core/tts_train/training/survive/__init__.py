"""Callbacks that keep a run alive: checkpoints, exact continuation, signals and non-finite steps."""
