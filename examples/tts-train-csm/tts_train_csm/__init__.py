"""CSM-1B (Sesame): a Llama that hears text and frames of Mimi, and a depth network that says their codebooks."""
