"""Whose voice a clip is: embeddings, clusters of them, outliers, and names."""
