"""Objectives over pairs, by hand; TRL's trainers are asked in tests/families/test_preference_parity.py."""

from __future__ import annotations

import math

import pytest
import torch

from tts_train.nn.preference import OBJECTIVES, divergence, in_pairs, mean_loss, prefer

LOGPS = torch.tensor([-3.0, -4.0, -2.0, -1.5], dtype=torch.float64)
HELD = torch.tensor([-3.5, -3.0, -2.0, -2.0], dtype=torch.float64)
COUNTS = torch.tensor([2, 4, 1, 3])


def objective(name, beta=0.5, **options):
    """The objective on two pairs with all that it takes."""
    reference = None if name == "orpo" else in_pairs(HELD)
    return prefer(*in_pairs(LOGPS), beta=beta, objective=name, reference=reference, counts=in_pairs(COUNTS), **options)


def softplus(value):
    return math.log1p(math.exp(value))


@pytest.mark.parametrize(
    ("name", "smoothing", "expected"),
    [
        ("sigmoid", 0.0, [softplus(-0.75), softplus(0.25)]),
        ("sigmoid", 0.1, [0.9 * softplus(-0.75) + 0.1 * softplus(0.75), 0.9 * softplus(0.25) + 0.1 * softplus(-0.25)]),
        ("robust", 0.1, [(0.9 * softplus(-0.75) - 0.1 * softplus(0.75)) / 0.8,
                         (0.9 * softplus(0.25) - 0.1 * softplus(-0.25)) / 0.8]),
        ("sigmoid_norm", 0.0, [softplus(-0.25), softplus(0.5 * 0.5 / 3)]),
        ("ipo", 0.0, [0.25, (-0.5 / 3 - 1) ** 2]),
    ],
)  # fmt: skip
def test_losses_by_hand(name, smoothing, expected):
    got = objective(name, label_smoothing=smoothing)
    assert got.losses.tolist() == pytest.approx(expected, rel=1e-12)
    assert got.loss.item() == pytest.approx(sum(expected) / 2)
    assert got.chosen_rewards.tolist() == [0.25, 0.0]
    assert got.rejected_rewards.tolist() == [-0.5, 0.25]
    assert got.margins.tolist() == [0.75, -0.25]
    assert got.accuracy == 0.5


def test_odds_by_hand():
    got = objective("orpo")
    shares = [math.exp(each) for each in (-1.5, -1.0, -2.0, -0.5)]
    odds = [math.log(share / (1 - share)) for share in shares]
    assert got.losses.tolist() == pytest.approx([0.5 * softplus(odds[1] - odds[0]), 0.5 * softplus(odds[3] - odds[2])])
    assert got.margins.tolist() == [-0.25, -0.75]


def test_odds_of_what_is_certain_are_finite():
    logps = torch.tensor([0.0, -50.0, -1e-9, -300.0], requires_grad=True)
    for counts in ((1, 1, 1, 1), (3, 1, 2, 1)):
        chosen, rejected = in_pairs(logps)
        got = prefer(chosen, rejected, beta=1.0, objective="orpo", counts=in_pairs(torch.tensor(counts)))
        slopes = torch.autograd.grad(got.loss, logps)[0]
        assert torch.isfinite(got.losses).all()
        assert torch.isfinite(slopes).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_the_network_learns(name):
    logps, held = LOGPS.clone().requires_grad_(), HELD.clone().requires_grad_()
    reference = None if name == "orpo" else in_pairs(held)
    got = prefer(*in_pairs(logps), beta=0.1, objective=name, reference=reference, counts=in_pairs(COUNTS))
    got.loss.backward()
    assert held.grad is None
    assert (logps.grad[::2] < 0).all()  # chosen sequences become likelier
    assert (logps.grad[1::2] > 0).all()
    assert not any(each.requires_grad for each in (got.margins, got.chosen_rewards, got.rejected_rewards))


@pytest.mark.parametrize("name", ["sigmoid", "robust", "sigmoid_norm", "ipo"])
def test_a_network_that_is_the_reference_has_no_margin(name):
    logps = torch.randn(20, generator=torch.Generator().manual_seed(0)) * 500
    counts = in_pairs(torch.arange(1, 21))
    got = prefer(*in_pairs(logps), beta=0.1, objective=name, reference=in_pairs(logps), counts=counts)
    assert not got.margins.any()
    assert not got.chosen_rewards.any()
    assert torch.allclose(got.losses, torch.tensor(25.0 if name == "ipo" else math.log(2)))


def test_means_over_tokens():
    assert mean_loss(LOGPS, COUNTS).item() == pytest.approx(10.5 / 10)
    assert divergence(LOGPS, HELD, COUNTS).item() == pytest.approx(0.0)
    assert divergence(HELD - 1, HELD, COUNTS).item() == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "hinge"}, "one of sigmoid, robust, sigmoid_norm, ipo, orpo, not 'hinge'"),
        ({"label_smoothing": 0.5}, "not 0.5"),
        ({"objective": "ipo", "label_smoothing": 0.1}, "for sigmoid, robust, sigmoid_norm, not 0.1"),
        ({"objective": "orpo"}, "orpo has no reference"),
        ({"objective": "sigmoid_norm", "counts": None}, "sigmoid_norm needs the numbers of tokens"),
    ],
)
def test_what_has_no_meaning_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        prefer(*in_pairs(LOGPS), **{"beta": 0.1, "reference": in_pairs(HELD), "counts": in_pairs(COUNTS)} | options)
