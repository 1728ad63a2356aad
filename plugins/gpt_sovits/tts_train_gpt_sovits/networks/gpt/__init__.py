"""The text-to-semantic transformer: packing, attention, losses and generation."""
