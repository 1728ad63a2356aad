"""The life of a run: its directory, lock, checkpoints and exact continuation."""
