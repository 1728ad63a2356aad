"""One module for each command of ``tts-train``."""
