"""What a backend is and what it is asked: the names that a backend's package may import."""
