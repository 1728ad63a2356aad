"""Qwen3-TTS (12 Hz): a Qwen3 that speaks frames of 16 codes, with a small network for all but the first."""
