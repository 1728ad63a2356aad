"""Text against sound."""
