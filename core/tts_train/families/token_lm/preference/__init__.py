"""Pairs of takes, one better than the other, and what is learnt from them."""
