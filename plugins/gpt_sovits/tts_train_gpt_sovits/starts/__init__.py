"""Weights that training starts from: released files, exports, runs, adapters and random initialisation."""
