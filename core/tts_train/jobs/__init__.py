"""Preparing, exporting, speaking and evaluating, as a command does it and as a call."""
