"""The family's functions as Orpheus calls them, with its layout and model given."""

from __future__ import annotations

from functools import partial

from tts_train.families.token_lm import metrics
from tts_train.families.token_lm.data import batch, token_rows
from tts_train.families.token_lm.decoding import decoding, generate as generation, memory, sampling
from tts_train.families.token_lm.export import check
from tts_train.families.token_lm.network import late, restore, start
from tts_train.families.token_lm.network.network import HeadOptions, TokenNetwork
from tts_train.families.token_lm.speaking import parts, sources, voice
from tts_train_orpheus.layout import LAYOUT
from tts_train_orpheus.model import ORPHEUS

base_config = partial(start.base_config, ORPHEUS)
load_base = partial(start.load_base, ORPHEUS)
load_trained = partial(restore.load_trained, ORPHEUS)
sample_documents = partial(late.sample_documents, ORPHEUS)
DESCRIPTION = ORPHEUS.description_key
RELEASED = start.TinyOptions(hidden=3072, layers=28, heads=24, kv_heads=8, mlp=8192)

pack_documents = partial(batch.pack_documents, layout=LAYOUT)
pad_documents = partial(batch.pad_documents, layout=LAYOUT)
kept_targets = partial(batch.kept_targets, layout=LAYOUT)
inspect_rows = partial(token_rows.inspect_rows, layout=LAYOUT)
TokenMetrics = partial(metrics.TokenMetrics, LAYOUT)


def OrpheusNetwork(lm, head=HeadOptions()):
    return TokenNetwork(lm, LAYOUT, head)


generate = partial(generation.generate, LAYOUT)
stream = partial(generation.stream, LAYOUT)
spoken = partial(generation.spoken, LAYOUT)
Decoding = partial(decoding.Decoding, LAYOUT)
Allowed = partial(sampling.Allowed, LAYOUT)
decoding_on_shapes = partial(memory.decoding_on_shapes, LAYOUT)
generation_bytes = partial(memory.generation_bytes, ORPHEUS)

open_model = partial(sources.open_model, ORPHEUS)
open_run = partial(sources.open_run, ORPHEUS)
judge = partial(parts.judge, LAYOUT)
StreamDecoder = partial(voice.StreamDecoder, LAYOUT)

probe_row = partial(check.probe_row, ORPHEUS)
