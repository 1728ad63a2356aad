"""The blocks of the acceptance run on a card (``benchmarks/gpu.py``); each runs in a process of its own."""
