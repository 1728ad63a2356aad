"""Tests of recognisers and of ``tts-train corpus transcribe``."""
