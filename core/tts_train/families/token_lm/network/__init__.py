"""The language model with its loss: layers, adapters, first weights, and its shape for a memory estimate."""
