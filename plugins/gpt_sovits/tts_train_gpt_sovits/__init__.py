"""GPT-SoVITS for tts-train: a transformer from text to semantic codes, and a network from codes to sound."""
