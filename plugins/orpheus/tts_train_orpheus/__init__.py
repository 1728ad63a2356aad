"""Orpheus for tts-train: a Llama that speaks SNAC tokens."""
