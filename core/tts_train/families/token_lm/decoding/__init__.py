"""Generation: sampling, a static cache, batches, and what they take of memory."""
