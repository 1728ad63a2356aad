"""CSM's ids: Llama 3's text, two control tokens, and one block of ids for each of Mimi's codebooks."""

from __future__ import annotations

from tts_train.families.token_lm import FrameLayout

CODEBOOKS, CODEBOOK_SIZE = 32, 2051
TEXT_VOCABULARY = 128256
BEGIN_OF_TEXT, END_OF_TEXT = 128000, 128001
AUDIO, AUDIO_END = 128002, 128003
"""``<|AUDIO|>`` stands for a frame in the texts of transformers' processor, ``<|audio_eos|>`` for a frame of zeros."""

LAYOUT = FrameLayout(
    vocab_size=TEXT_VOCABULARY + CODEBOOKS * CODEBOOK_SIZE,
    text_tokens=BEGIN_OF_TEXT,
    added_base=BEGIN_OF_TEXT,
    audio_base=TEXT_VOCABULARY,
    codebook_size=CODEBOOK_SIZE,
    codes=2048,
    slot_levels=tuple(range(CODEBOOKS)),
    sample_rate=24000,
    frame_samples=1920,
    start_of_speech=END_OF_TEXT,
    end_of_speech=AUDIO_END,
    begin_of_text=BEGIN_OF_TEXT,
    pad=AUDIO,
    text_pad=AUDIO,
    end_of_turn=AUDIO_END,
    end_of_row=AUDIO_END,
)
"""12.5 frames a second."""
