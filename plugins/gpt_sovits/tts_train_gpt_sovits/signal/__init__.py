"""Audio and frames: spectrograms, slicing, masks, and what differs between versions."""
