"""Losses of batches whose rows end by a code alone: packed, padded, cut, and without a frame to learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.network.build import build_network, joined
from tts_train.families.token_lm.network.start import load_base
from tts_train_qwen3_tts.layout import CODEBOOKS, CODES, LAYOUT
from tts_train_qwen3_tts.model import QWEN3_TTS

PROMPT = 10


def document(frames, *, seed):
    """A row of a voice, five text rows and some frames; the last id is the end."""
    codes = np.random.default_rng(seed).integers(0, CODES, (frames, CODEBOOKS))
    audio = (codes + LAYOUT.audio_base + np.arange(CODEBOOKS) * CODES).ravel()
    text = np.r_[151644, 77091, LAYOUT.voice_base, LAYOUT.text_begins, LAYOUT.spoken_base + np.arange(4)]
    row = QWEN3_TTS.prompt.speech_row(text, audio)
    assert row.prompt == PROMPT
    return Document(str(seed), row.input_ids)


@pytest.fixture(scope="module")
def network():
    return build_network(load_base(QWEN3_TTS, "tiny"), LAYOUT)


def marked(row, learnt):
    return replace(row, learnt=learnt(np.arange(len(row.input_ids)) - PROMPT))


def of(network, rows, *, packed):
    """The output of a batch, and the gradients of its loss."""
    network.zero_grad()
    output = network(joined(rows, LAYOUT, packed=packed))
    output.loss.backward()
    grads = {name: weight.grad for name, weight in network.named_parameters() if "speaker_encoder" not in name}
    return output, grads


def test_packed_and_padded_rows_have_the_losses_that_each_has_alone(network):
    rows = [document(count, seed=count) for count in (3, 1, 5)]
    # Cut behind its second frame: there is no end to learn. And one of which the prompt is not learnt.
    rows += [
        replace(rows[2], input_ids=rows[2].input_ids[: PROMPT + 2 * CODEBOOKS]),
        replace(rows[0], learn_from=PROMPT),
    ]
    alone = [of(network, [row], packed=False)[0] for row in rows]
    assert [each.head.count for each in alone] == [4, 2, 6, 2, 4]
    assert [each.depth.count for each in alone] == [frames * (CODEBOOKS - 1) for frames in (3, 1, 5, 2, 3)]
    for packed in (True, False):
        output, _ = of(network, rows, packed=packed)
        assert torch.allclose(output.head.losses, torch.cat([each.head.losses for each in alone]), atol=1e-4)
        assert torch.allclose(output.depth.losses, torch.cat([each.depth.losses for each in alone]), atol=1e-4)
    assert int(alone[0].head.targets[-1]) == LAYOUT.end_of_speech


@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_without_a_frame_to_learn_has_a_gradient_for_every_weight(packed, network):
    row = document(3, seed=0)
    for learnt, count in ((lambda at: at < 0, 0), (lambda at: at == 3 * CODEBOOKS, 1)):
        output, grads = of(network, [marked(row, learnt)], packed=packed)
        assert (output.head.count, output.depth.count) == (count, 0)
        # Processes that train together wait for each of them.
        assert [name for name, grad in grads.items() if grad is None] == []
        assert all(torch.isfinite(grad).all() for grad in grads.values())
        depth = [grad for name, grad in grads.items() if "code_predictor.model.layers" in name]
        assert not any(grad.any() for grad in depth)
        assert bool(grads["lm.talker.codec_head.weight"].any()) == bool(count)


def test_a_row_of_which_nothing_is_learnt_adds_nothing(network):
    row = document(3, seed=0)
    one, grads = of(network, [row], packed=True)
    both, others = of(network, [row, marked(document(4, seed=1), lambda at: at < 0)], packed=True)
    assert torch.allclose(one.loss, both.loss, atol=1e-5)
    assert all(torch.allclose(grads[name], others[name], atol=1e-4) for name in grads)
