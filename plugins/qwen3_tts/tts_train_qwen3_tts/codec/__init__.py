"""Sound to codes and back: the speech tokenizer of Qwen3-TTS, 16 codebooks at 12.5 frames a second."""
