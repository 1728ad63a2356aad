"""What a run will need, before it runs: memory, work and time, by one step whose tensors are only shapes."""
