"""Training runs: the session, its callbacks, and means over batches and processes."""
