"""Tests of the Qwen3-TTS plugin."""
