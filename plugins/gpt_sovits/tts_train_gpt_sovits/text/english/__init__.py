"""English: normalised words, CMUdict, a tagger for homographs and a network for unknown words."""
