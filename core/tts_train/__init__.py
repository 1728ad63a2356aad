"""tts-train: one plugin-based trainer for text-to-speech voices."""
