"""Streamed sound is the whole clip's sound, every frame of it, and faults are counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.orpheus.family import StreamDecoder
from tests.orpheus.test_layout import random_levels
from tts_train.errors import ConfigError
from tts_train_orpheus import layout
from tts_train_orpheus.codec.snac import load_codec


@pytest.fixture(scope="module")
def codec():
    return load_codec("random")


def heard(codec, frames, **options):
    levels = random_levels(frames)
    tokens = [*layout.codes_to_tokens(levels).tolist(), layout.END_OF_SPEECH]
    chunks = list(StreamDecoder(codec, **options).decode(tokens))
    return chunks, codec.decode(levels, seed=options.get("seed", 0))


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("chunk_frames", [1, 4])
@pytest.mark.parametrize("frames", [1, 3, 4, 7, 15])
def test_the_stream_is_the_whole_decode(codec, frames, chunk_frames, seed):
    chunks, whole = heard(codec, frames, chunk_frames=chunk_frames, seed=seed)
    assert torch.cat(chunks).shape == whole.shape == (frames * 2048,)
    assert (torch.cat(chunks) - whole).abs().max() <= 1e-5 * max(1.0, float(whole.std()))


def test_one_frame_less_of_context_would_be_heard(codec, monkeypatch):
    monkeypatch.setattr(codec, "context_frames", 1)
    chunks, whole = heard(codec, 12, seed=None)
    assert (torch.cat(chunks) - whole).abs().max() > 1e-3


def test_sound_begins_with_the_fourth_frame(codec):
    tokens = layout.codes_to_tokens(random_levels(10)).tolist()
    given = []

    def feed():
        for token in tokens:
            given.append(token)
            yield token

    stream = StreamDecoder(codec).decode(feed())
    assert next(stream).shape == (2048,)
    assert len(given) == 4 * layout.SLOTS


def test_windows_stay_seven_frames(codec, monkeypatch):
    widths = []
    decode = codec.decode

    def watched(levels, **options):
        widths.append(len(levels[0]))
        return decode(levels, **options)

    monkeypatch.setattr(codec, "decode", watched)
    list(StreamDecoder(codec).decode(layout.codes_to_tokens(random_levels(20)).tolist()))
    assert widths == [4, 5, 6, *[7] * 14, 6]


def test_faults_are_counted_and_the_rest_is_spoken(codec):
    tokens = layout.codes_to_tokens(random_levels(6)).tolist()
    decoder = StreamDecoder(codec, seed=None)
    chunks = list(decoder.decode([*tokens[:10], 65, *tokens[11:], layout.END_OF_SPEECH, *tokens]))
    clean = layout.read_generated([*tokens[:7], *tokens[14:]])
    np.testing.assert_allclose(torch.cat(chunks), codec.decode(clean.codes, seed=None), atol=1e-5)
    assert (decoder.reader.not_audio, decoder.reader.wrong_slot, decoder.reader.ended) == (1, 3, True)


def test_nothing_said_is_nothing_heard(codec):
    assert list(StreamDecoder(codec).decode([layout.END_OF_SPEECH])) == []
    with pytest.raises(ConfigError, match="chunk_frames"):
        StreamDecoder(codec, chunk_frames=0)
