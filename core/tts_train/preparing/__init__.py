"""The skeleton of ``prepare`` around a backend's encoder."""
