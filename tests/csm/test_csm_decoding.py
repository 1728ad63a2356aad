"""What CSM says: greedy as transformers does, the same in any batch, and what its loss says it would."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tts_train_csm.layout import AUDIO_END, CODEBOOKS, LAYOUT

from tests.csm.small import documents, pair
from tts_train.errors import ConfigError
from tts_train.families.token_lm.decoding.generate import generate, stream
from tts_train.families.token_lm.decoding.options import Sampling

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
