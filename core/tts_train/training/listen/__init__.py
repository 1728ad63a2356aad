"""Callbacks that generate samples during training and score them."""
