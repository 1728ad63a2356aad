"""The core's recognisers: what is said in a sound, by a model of the user's or by one that a wheel carries."""
