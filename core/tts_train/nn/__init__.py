"""Numerics that several backends share: the fused head and loss, and attention over packed documents."""
