"""What a kind of model needs, for backends to build on; the core itself imports none of it."""
