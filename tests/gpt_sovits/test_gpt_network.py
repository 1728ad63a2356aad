"""Packed utterances, alone or in pairs, give what each gives on its own, whichever kernel attends."""

from __future__ import annotations

import pytest
import torch

from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, pack
from tts_train_gpt_sovits.networks.gpt.padded import PaddedBatch, padded_forward
from tts_train_gpt_sovits.signal.versions import GptConfig

CONFIG = GptConfig(phonemes=20, codes=17, width=16, heads=2, layers=2, dropout=0.0)
KERNELS = ("spans", "grid")


@pytest.fixture
def network():
    torch.manual_seed(0)
    return GptNetwork(CONFIG).double()


def utterance(x, y, *, bert=False, rejected=None, seed=0):
    chance = torch.Generator().manual_seed(1000 * x + y + seed)
    return GptUtterance(
        phonemes=torch.randint(0, 20, (x,), generator=chance),
        codes=torch.randint(0, 16, (y,), generator=chance),
        bert=torch.randn(x, 1024, generator=chance, dtype=torch.float64) if bert else None,
        rejected=rejected,
    )


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


def alone(network, each):
    return network(pack([each], end=16)).losses


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_utterance_does_not_depend_on_its_neighbours(network, kernel):
    rows = [utterance(7, 11, bert=True), utterance(3, 2), utterance(5, 17), utterance(1, 1), utterance(4, 0)]
    expected = [alone(network, each) for each in rows]
    wanted = gradients(network, sum(each.sum() for each in expected))
    network.kernel = kernel
    output = network(pack(rows, end=16))
    for part, each in zip(output.losses.split(output.counts), expected, strict=True):
        torch.testing.assert_close(part, each)
    got = gradients(network, output.loss_sum)
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient)


@pytest.mark.parametrize("layout", ["upstream"])
def test_one_utterance_is_upstreams_loss(network, layout):
    each = utterance(6, 9, bert=True)
    batch = PaddedBatch(
        phonemes=each.phonemes[None],
        text_lengths=torch.tensor([6]),
        bert=each.bert[None],
        codes=each.codes[None],
        code_lengths=torch.tensor([9]),
    )
    torch.testing.assert_close(padded_forward(network, batch, layout).losses[0], alone(network, each))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    "rejections",
    [
        [lambda y: torch.cat([y[:8], y[4:]]), lambda y: torch.cat([y[:3], y[5:]])],
        [lambda y: y, lambda y: y[:2]],
        [lambda y: torch.flip(y, [0]), lambda y: torch.cat([y, y])],
        [lambda y: y[:0], lambda y: y[1:]],
    ],
    ids=["repeat and lost", "same and shorter", "nothing shared and longer", "empty and first lost"],
)
def test_a_pair_is_worth_what_its_sequences_are_on_their_own(network, kernel, rejections):
    plain = [utterance(5, 12, bert=True), utterance(8, 9)]
    rows = [
        GptUtterance(phonemes=each.phonemes, codes=each.codes, bert=each.bert, rejected=change(each.codes))
        for each, change in zip(plain, rejections, strict=True)
    ]
    rejected = [GptUtterance(phonemes=each.phonemes, codes=each.rejected, bert=each.bert) for each in rows]
    chosen_logps = torch.stack([-alone(network, each).sum() for each in plain])
    rejected_logps = torch.stack([-alone(network, each).sum() for each in rejected])
    weights = torch.tensor([1.0, -0.5], dtype=torch.float64)
    wanted = gradients(network, (chosen_logps * weights - 2 * rejected_logps * weights).sum())
    network.kernel = kernel
    output = network(pack(rows, end=16))
    torch.testing.assert_close(output.chosen_logps, chosen_logps)
    torch.testing.assert_close(output.rejected_logps, rejected_logps)
    got = gradients(network, (output.chosen_logps * weights - 2 * output.rejected_logps * weights).sum())
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient)


def test_a_pair_computes_its_shared_start_once():
    each = utterance(5, 12)
    pair = GptUtterance(phonemes=each.phonemes, codes=each.codes, rejected=torch.cat([each.codes[:8], each.codes[4:]]))
    assert pack([pair], end=16)["codes"].numel() <= 12 + 8


def test_checkpointing_changes_nothing(network):
    batch = pack([utterance(7, 11, bert=True), utterance(3, 4)], end=16)
    network.train()
    wanted = gradients(network, network(batch).loss_sum)
    network.checkpointing = True
    got = gradients(network, network(batch).loss_sum)
    for name, gradient in wanted.items():
        torch.testing.assert_close(got[name], gradient)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_acts_in_training_only_and_repeats_with_the_seed(kernel, checkpointing):
    torch.manual_seed(0)
    network = GptNetwork(GptConfig(20, 17, 16, 2, 2), checkpointing=checkpointing, kernel=kernel)
    batch = pack([utterance(7, 11), utterance(3, 4)], end=16)
    assert torch.equal(network.eval()(batch).losses, network(batch).losses)
    network.train()
    torch.manual_seed(1)
    first = gradients(network, network(batch).loss_sum)
    other = gradients(network, network(batch).loss_sum)
    torch.manual_seed(1)
    again = gradients(network, network(batch).loss_sum)
    assert all(torch.equal(again[name], gradient) for name, gradient in first.items())
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_runs_in_bfloat16_under_autocast(network, kernel):
    network = network.float()
    network.kernel = kernel
    batch = pack([utterance(7, 11), utterance(3, 4)], end=16)
    full = network(batch).losses
    with torch.autocast("cpu", torch.bfloat16):
        half = network(batch).losses
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, atol=0.05, rtol=0.02)


def test_half_precision_features_may_stand_beside_none(network):
    each = utterance(4, 3)
    half = GptUtterance(phonemes=each.phonemes, codes=each.codes, bert=torch.ones(4, 1024, dtype=torch.float16))
    assert pack([half, each], end=16)["bert"].dtype == torch.float32
    assert network.float()(pack([half, each], end=16)).losses.isfinite().all()


@pytest.mark.parametrize(
    "rows",
    [[], [utterance(0, 3)], [utterance(2, 3), utterance(2, 3, rejected=torch.tensor([1]))]],
    ids=["none", "no phonemes", "some pairs"],
)
def test_what_cannot_be_a_batch_is_refused(rows):
    with pytest.raises(ValueError, match="A batch needs"):
        pack(rows)


def test_top3_leaves_the_end_token_out(network):
    output = network(pack([utterance(5, 30), utterance(4, 20)], end=16))
    spoken = output.targets != 16
    assert spoken.sum() == 50
    assert output.top3(16) == output.hits[spoken].float().mean()
