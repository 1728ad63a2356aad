"""Text and a reference to sound, with any GPT and any SoVITS."""
