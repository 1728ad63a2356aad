"""One training step on shapes: its memory, operations and time on a card."""
