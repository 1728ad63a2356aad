"""Orpheus's token ids and its frame of seven slots; no other module knows either."""

from __future__ import annotations

from functools import partial

from tts_train.families.token_lm import FrameReader as AnyFrameReader, FramesRead, Ids, Levels, TokenLayout

__all__ = ["LAYOUT", "FramesRead", "Ids", "Levels"]

TEXT_TOKENS = 128000
"""Ids below this one are Llama-3 text; from it on they are control tokens, then audio."""
BEGIN_OF_TEXT = 128000
TEXT_PAD = 128004
"""``<|finetune_right_pad_id|>``"""
END_OF_TURN = 128009
"""``<|eot_id|>``"""

CUSTOM_BASE = 128256
"""Id of ``<custom_token_0>``."""
CUSTOM_TOKENS = 28683
START_OF_SPEECH = 128257
END_OF_SPEECH = 128258
"""Generation stops here."""
START_OF_HUMAN = 128259
END_OF_HUMAN = 128260
START_OF_AI = 128261
END_OF_AI = 128262
PAD = 128263
START_OF_SYSTEM = 128264
END_OF_SYSTEM = 128265
AUDIO_BASE = 128266
"""Id of code 0 in slot 0."""
AUDIO_MARK = 156939
"""``<|audio|>``, the one token that the pretrained checkpoint has no row for."""
VOCAB_SIZE = 156940

SAMPLE_RATE = 24000
FRAME_SAMPLES = 2048
CODEBOOK_SIZE = 4096

LAYOUT = TokenLayout(
    vocab_size=VOCAB_SIZE,
    text_tokens=TEXT_TOKENS,
    added_base=CUSTOM_BASE,
    audio_base=AUDIO_BASE,
    codebook_size=CODEBOOK_SIZE,
    slot_levels=(0, 1, 2, 2, 1, 2, 2),
    sample_rate=SAMPLE_RATE,
    frame_samples=FRAME_SAMPLES,
    start_of_speech=START_OF_SPEECH,
    end_of_speech=END_OF_SPEECH,
    begin_of_text=BEGIN_OF_TEXT,
    pad=PAD,
    text_pad=TEXT_PAD,
    end_of_turn=END_OF_TURN,
    end_of_row=END_OF_AI,
    start_of_row=START_OF_HUMAN,
    start_of_answer=START_OF_AI,
)
"""SNAC's three codebooks have 1, 2 and 4 codes a frame; the released models were trained on this order of them."""

SLOTS = LAYOUT.slots
"""Tokens in a frame."""
LEVEL_RATES, SLOT_LEVELS = LAYOUT.level_rates, LAYOUT.slot_levels
AUDIO_END, TOKENS_PER_SECOND = LAYOUT.audio_end, LAYOUT.tokens_per_second
CONTROL_PLACE, OTHER_PLACE, PLACES = LAYOUT.control_place, LAYOUT.other_place, LAYOUT.places

# Functions of the one layout, so that callers need not carry it.
codes_to_tokens, tokens_to_codes = LAYOUT.codes_to_tokens, LAYOUT.tokens_to_codes
drop_repeated_frames, read_generated = LAYOUT.drop_repeated_frames, LAYOUT.read_generated
slot_of, place_of, kind_of = LAYOUT.slot_of, LAYOUT.place_of, LAYOUT.kind_of
FrameReader = partial(AnyFrameReader, LAYOUT)
