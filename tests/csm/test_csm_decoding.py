"""What CSM says: greedy as transformers does, the same in any batch, and what its loss says it would."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tts_train_csm.layout import AUDIO_END, CODEBOOKS, LAYOUT
from tts_train_csm.model import CSM

from tests.csm.small import documents, pair
from tts_train.errors import ConfigError
from tts_train.families.token_lm.decoding.generate import generate, stream
from tts_train.families.token_lm.decoding.memory import PROMPT, generation_bytes, listening_bytes
from tts_train.families.token_lm.frames.decoding import FrameDecoding
from tts_train.families.token_lm.model import Sampling

FRAMES = 3
GREEDY = Sampling(temperature=0, repetition_penalty=1)
WILD = Sampling(temperature=1, top_p=1, repetition_penalty=1)


@pytest.fixture(scope="module")
def both():
    return pair()


def prompts():
    return [
        document.input_ids[: np.flatnonzero(LAYOUT.slot_of(document.input_ids) == 0)[0]] for document in documents()
    ]


def test_greedy_codes_are_those_of_transformers(both):
    theirs, network = both
    said = generate(LAYOUT, network.lm, prompts(), seeds=[0] * 4, max_new_tokens=FRAMES * CODEBOOKS, sampling=GREEDY)
    options = {"do_sample": False, "depth_decoder_do_sample": False, "max_new_tokens": FRAMES}
    for prompt, each in zip(prompts(), said, strict=True):
        codes = theirs.generate(input_ids=torch.from_numpy(prompt)[None], **options)[0]
        assert codes.shape == (FRAMES, CODEBOOKS)
        found = np.stack(each.content.codes, axis=1)
        assert np.array_equal(found, codes.numpy()[: len(found)])
        assert each.content.frames == FRAMES
        assert not each.content.errors


def test_a_row_says_the_same_alone_and_in_a_batch(both):
    _, network = both
    seeds = [5, 6, 7, 8]
    options = {"max_new_tokens": 2 * CODEBOOKS, "sampling": WILD}
    together = generate(LAYOUT, network.lm, prompts(), seeds=seeds, **options)
    alone = [list(stream(LAYOUT, network.lm, p, seed=s, **options)) for p, s in zip(prompts(), seeds, strict=True)]
    assert [list(each.ids) for each in together] == alone
    assert len({each.ids for each in together}) == len(seeds)
    with pytest.raises(ConfigError, match="repetition_penalty 1"):
        generate(LAYOUT, network.lm, prompts(), seeds=seeds, max_new_tokens=CODEBOOKS)


def test_it_ends_where_every_code_is_zero(both, monkeypatch):
    _, network = both
    for weight in (network.lm.lm_head.weight, network.lm.depth_decoder.codebooks_head.weight):
        monkeypatch.setattr(weight, "data", torch.zeros_like(weight))  # the first of equal logits is taken
    (said,) = generate(LAYOUT, network.lm, prompts()[:1], seeds=[0], max_new_tokens=100, sampling=GREEDY)
    assert said.ids == (AUDIO_END,)
    assert said.content.ended


def test_memory_is_counted_by_what_generation_keeps(both):
    """Caches of positions and not of ids, the depth network's among them, and its matrices."""
    _, network = both
    lm, rows = network.lm, 4
    # Longer prompts than a usual one: what they leave in a cache is most of it.
    long = [np.concatenate([np.zeros(1100 + row, dtype=np.int64), prompt]) for row, prompt in enumerate(prompts())]
    positions = max(map(len, long)) + FRAMES
    limits = [FRAMES * CODEBOOKS] * rows
    decoding = FrameDecoding(LAYOUT, lm, long, seeds=[0] * rows, limits=limits, sampling=GREEDY)
    kept = [decoding._backbone.cache, decoding._depth.cache, decoding._matrices]
    counted = sum(tensor.untyped_storage().nbytes() for tensor in kept)
    sizes = {"depth": lm.depth.config}
    estimate = generation_bytes(replace(CSM, codec_bytes=0), lm.config, rows, positions, torch.float32, **sizes)
    assert counted < estimate < 2.5 * counted
    # A minute is 750 positions, not 24,000, and its sound is decoded in one piece.
    sound = 750 * LAYOUT.frame_samples * CSM.codec_bytes
    assert generation_bytes(CSM, lm.config, 1, 750, torch.float32, **sizes) == sound
    # One second beyond twice a usual clip.
    listened = listening_bytes(CSM, lm.config, 8, half=False, **sizes)
    assert listened == generation_bytes(CSM, lm.config, 8, PROMPT + round(2 * 120 + 12.5), torch.float32, **sizes)
