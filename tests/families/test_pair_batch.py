"""Pairs whose prompts are computed once have the log-probabilities and gradients of documents computed alone."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from tts_train_csm import layout as csm

from tests.core.nn.test_linear_cross_entropy import NoCounting
from tests.csm.small import pair as csm_networks
from tests.orpheus.family import LAYOUT as ORPHEUS_LAYOUT, OrpheusNetwork, load_base
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method
from tts_train.families.token_lm.network.build import build_network, joined
from tts_train.families.token_lm.network.network import HeadOptions
from tts_train.families.token_lm.network.start import TinyOptions, load_base as load_any
from tts_train.families.token_lm.preference.batch import IdPair, pair_batch, sequence_logps
from tts_train.nn.preference import in_pairs, prefer
from tts_train_qwen3_tts.layout import LAYOUT as QWEN_LAYOUT
from tts_train_qwen3_tts.model import QWEN3_TTS

SMALL = TinyOptions(hidden=16, layers=2, heads=2, kv_heads=1, mlp=24)
UPSTREAM = torch.tensor([0.7, -1.3, 0.0, 2.0, -0.4, 0.9, 1.1, -0.2], dtype=torch.float64)


def frames(layout, count, chance):
    """The ids of so many random frames."""
    return layout.codes_to_tokens([chance.integers(0, 128, count * rate) for rate in layout.level_rates])


def pairs(layout, prompt):
    """Prompts of several kinds: text, one id, with frames of a recording; answers of several lengths, one a cut."""
    chance = np.random.default_rng(0)

    def answer(count, ends=True):
        return np.append(frames(layout, count, chance), [layout.end_of_speech] if ends else []).astype(np.int64)

    begin = prompt[-1:] if layout is not QWEN_LAYOUT else prompt
    recorded = np.concatenate([prompt, answer(2), prompt])
    long = answer(4)
    return [
        IdPair("text", prompt, answer(3), answer(1), 0.5),
        IdPair("short", begin, answer(1), answer(2)),
        IdPair("recorded", recorded, answer(2), answer(3, ends=False)),
        IdPair("cut", prompt, long, long[: 2 * layout.slots]),
    ]


def orpheus():
    network = OrpheusNetwork(load_base("tiny", tiny=SMALL), HeadOptions(chunk_tokens=7, softmax="slot"))
    return network, ORPHEUS_LAYOUT, np.array([128259, 128000, 40, 41, 128009, 128260, 128261, 128257])


def csm_example():
    return csm_networks()[1], csm.LAYOUT, np.array([csm.BEGIN_OF_TEXT, 5, 6, 7, csm.END_OF_TEXT])


def qwen3_tts():
    layout = QWEN_LAYOUT
    text = np.r_[151644, 77091, layout.voice_base, layout.text_begins, layout.spoken_base + np.arange(4)]
    prompt = QWEN3_TTS.prompt.speech_row(text, frames(layout, 1, np.random.default_rng(1)))
    return build_network(load_any(QWEN3_TTS, "tiny"), layout), layout, prompt.input_ids[: prompt.prompt]


def in_double(network):
    """The network in float64 throughout: transformers normalises in float32, which rounds sums and parts unlike."""

    def normed(norm, states):
        return norm.weight * states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)

    for module in network.modules():
        if hasattr(module, "variance_epsilon"):
            module.forward = partial(normed, module)
    return network.double().train()


@cache
def member(name):
    network, layout, prompt = {"orpheus": orpheus, "csm": csm_example, "qwen3_tts": qwen3_tts}[name]()
    return in_double(network), layout, pairs(layout, prompt.astype(np.int64))


def alone(network, given, layout):
    """Log-probabilities of answers by the ordinary forward, document by document."""
    made = []
    for document in (document for pair in given for document in pair.documents):
        output = network(joined([document], layout, packed=True))
        made.append(-torch.stack([part.loss_sum for part in output.parts]).sum())
    return torch.stack(made)


def slopes(network, logps):
    network.zero_grad(set_to_none=True)
    (logps * UPSTREAM).sum().backward()
    return {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("name", ["orpheus", "csm", "qwen3_tts"])
def test_shared_prompts_change_nothing(name):
    network, layout, given = member(name)
    network.train()
    expected = alone(network, given, layout)
    wanted = slopes(network, expected)
    batch = pair_batch(given, layout)
    whole = sum(len(layout.starts(each.input_ids)) for pair in given for each in pair.documents)
    saved = sum(len(layout.starts(pair.prompt)) - 1 for pair in given)
    assert batch["input_ids"].shape == (1, whole - saved)
    found = sequence_logps(network(batch, tokenwise=True), batch)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    grads = slopes(network, found)
    assert grads.keys() == wanted.keys()
    for each, grad in grads.items():
        torch.testing.assert_close(grad, wanted[each], rtol=0, atol=1e-10 * wanted[each].abs().max().clamp(min=1))


@pytest.mark.parametrize("name", ["orpheus", "csm", "qwen3_tts"])
def test_the_batch_counts_what_each_answer_says(name):
    _, layout, given = member(name)
    batch = pair_batch(given, layout)
    said = [(3, 1), (1, 1), (1, 1), (2, 1), (2, 1), (3, 0), (4, 1), (2, 0)]
    if name == "orpheus":
        assert batch["target_sizes"] == batch["said"].tolist() == [7 * count + end for count, end in said]
        assert batch["frame_sizes"] == [0] * 8
    else:
        # Where the end is a frame, its codes are said as well.
        framed = [count + end * layout.end_is_frame for count, end in said]
        assert batch["target_sizes"] == [count + end for count, end in said]
        assert batch["frame_sizes"] == framed
        assert batch["said"].tolist() == [
            first + (layout.slots - 1) * depth for first, depth in zip(batch["target_sizes"], framed, strict=True)
        ]
    assert batch["ids"] == [pair.id for pair in given for _ in range(2)]
    assert batch["audio_seconds"] == 0.5


def test_evaluation_sees_the_softmax_of_training():
    network, layout, given = member("orpheus")
    batch = pair_batch(given, layout)
    with torch.no_grad():
        trained, judged = (sequence_logps(network.train(mode)(batch, tokenwise=True), batch) for mode in (True, False))
        free = sequence_logps(network.eval()(batch), batch)
    assert torch.equal(trained, judged)
    assert not judged.requires_grad
    assert (free < judged - 1).all()  # the whole vocabulary takes its share


def test_adapters_learn_from_shared_prompts():
    network, layout, prompt = orpheus()
    apply_method(network, "lora", LoraOptions(rank=2, alpha=4.0))
    network = in_double(network)
    for each, weight in network.named_parameters():
        if "lora_B" in each:
            torch.nn.init.normal_(weight, std=0.1)
    given = pairs(layout, prompt.astype(np.int64))
    batch = pair_batch(given, layout)
    wanted = slopes(network, alone(network, given, layout))
    grads = slopes(network, sequence_logps(network(batch, tokenwise=True), batch))
    assert grads.keys() == wanted.keys()
    assert all("lora" in each for each in grads)
    for each, grad in grads.items():
        torch.testing.assert_close(grad, wanted[each], rtol=0, atol=1e-10)


def test_recomputed_layers_see_the_shared_prompts():
    network, layout, given = member("orpheus")
    batch = pair_batch(given, layout)
    wanted = slopes(network.train(), sequence_logps(network(batch, tokenwise=True), batch))
    network.enable_checkpointing()
    try:
        grads = slopes(network, sequence_logps(network(batch, tokenwise=True), batch))
    finally:
        network.lm.gradient_checkpointing_disable()
    assert all(torch.equal(grads[each], wanted[each]) for each in wanted)


def test_fused_layers_share_prompts_too():
    sides = []
    for fused in (False, True):
        network, layout, prompt = orpheus()
        apply_method(network.train(), "lora", LoraOptions(rank=2, alpha=4.0))
        if fused:
            network.use_fused_kernels()
        given = pairs(layout, prompt.astype(np.int64))
        batch = pair_batch(given, layout)
        logps = sequence_logps(network(batch, tokenwise=True), batch)
        sides.append((logps, slopes(network, logps.double())))
    torch.testing.assert_close(sides[1][0], sides[0][0], rtol=1e-5, atol=1e-4)
    for each, grad in sides[1][1].items():
        torch.testing.assert_close(grad, sides[0][1][each], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["orpheus", "csm"])
def test_the_host_waits_for_nothing(name):
    network, layout, given = member(name)
    batch = pair_batch(given, layout)
    with NoCounting():
        logps, counts = sequence_logps(network.train()(batch, tokenwise=True), batch), in_pairs(batch["said"])
        held = in_pairs(torch.zeros_like(logps))
        found = prefer(*in_pairs(logps), beta=0.1, objective="ipo", reference=held, counts=counts)
        found.loss.backward()
        assert found.accuracy.shape == ()


@pytest.mark.parametrize("part", ["prompt", "chosen", "rejected"])
def test_a_pair_without_ids_is_refused(part):
    pair = member("orpheus")[2][0]
    with pytest.raises(ValueError, match=f"{part} of text has none"):
        replace(pair, **{part: pair.prompt[:0]})
