"""Signal analysis that several metrics share: silence, time warping and WORLD features."""
