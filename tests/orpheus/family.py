"""The family's functions as Orpheus calls them, with its layout and model given."""

from __future__ import annotations

from functools import partial

from tts_train.families.token_lm.decoding import decode_shapes, decoding, memory, sampling
from tts_train.families.token_lm.decoding import generate as generation
from tts_train_orpheus.layout import LAYOUT
from tts_train_orpheus.model import ORPHEUS

generate = partial(generation.generate, LAYOUT)
stream = partial(generation.stream, LAYOUT)
spoken = partial(generation.spoken, LAYOUT)
Decoding = partial(decoding.Decoding, LAYOUT)
Allowed = partial(sampling.Allowed, LAYOUT)
decoding_on_shapes = partial(decode_shapes.decoding_on_shapes, LAYOUT)
generation_bytes = partial(memory.generation_bytes, ORPHEUS)
