"""Training on pairs of takes of which one is better: what they are, what is computed of them, and how it is checked."""
