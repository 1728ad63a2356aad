"""Frames that are one position each: their embeddings are summed, and a depth network says all codebooks but one."""
