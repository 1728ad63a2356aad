"""Dropout drops the share it is told, keeps the expectation, and passes gradients only where it kept."""

from __future__ import annotations

import pytest
import torch

from tts_train_gpt_sovits.networks.gpt.attention import dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_it_drops_its_share_and_keeps_the_expectation(share):
    torch.manual_seed(0)
    states = torch.ones(300, 701)
    done = dropout(states, share)
    assert (done == 0).float().mean() == pytest.approx(share, abs=0.005)
    assert done.mean() == pytest.approx(1.0, abs=0.02)
    assert done[done > 0].unique().numel() == 1
    # Neighbours that come of one draw are dropped independently.
    both = (done.flatten()[0:-4:4] == 0) & (done.flatten()[1:-3:4] == 0)
    assert both.float().mean() == pytest.approx(share**2, abs=0.01)


def test_gradients_pass_where_elements_were_kept():
    states = torch.randn(9, 7, dtype=torch.float64, requires_grad=True)
    done = dropout(states, 0.5)
    done.sum().backward()
    assert torch.equal(states.grad == 0, done == 0)
    assert torch.allclose(states.grad[done != 0], torch.tensor(2.0, dtype=torch.float64))


def test_nothing_is_drawn_where_nothing_is_dropped():
    states = torch.randn(5)
    before = torch.get_rng_state()
    assert dropout(states, 0.0) is states
    assert dropout(states, 0.5, training=False) is states
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_repeats_it():
    states = torch.ones(5, 3)
    done = []
    for _ in range(2):
        torch.manual_seed(4)
        done.append(dropout(states, 0.5))
    assert torch.equal(*done)


def test_everything_can_be_dropped():
    assert dropout(torch.ones(8), 1.0).eq(0).all()
