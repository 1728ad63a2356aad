"""Training on takes that the network draws itself, by what is measured of them."""
