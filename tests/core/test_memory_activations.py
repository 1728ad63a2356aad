"""Activations in host memory: the same gradients, weights stay, and which blocks are recomputed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tts_train.nn.activations import OffloadedActivations, spread

WIDTH, TOKENS = 1024, 320
STATE_BYTES = WIDTH * TOKENS * 4


def net():
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(4)))


def gradients(run, *, autocast=False):
    layers, states = net(), torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = run(layers, states.requires_grad_()).float().square().mean()
    loss.backward()
    return [states.grad, *(parameter.grad for parameter in layers.parameters())]


@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_the_same_and_weights_stay(autocast):
    hooks = OffloadedActivations()

    def moved(layers, states):
        with hooks:
            return layers(states)

    expected = gradients(lambda layers, states: layers(states), autocast=autocast)
    for found, wanted in zip(gradients(moved, autocast=autocast), expected, strict=True):
        assert torch.equal(found, wanted)
    # Four inputs and four outputs of tanh, in bfloat16 too small; never a weight or its bfloat16 copy of 2 MiB.
    assert hooks.moved_bytes == (0 if autocast else 8 * STATE_BYTES)


def test_a_checkpointed_block_moves_only_what_it_was_given():
    hooks = OffloadedActivations()

    def moved(layers, states):
        with hooks:
            for layer in layers:
                states = checkpoint(layer, states, use_reentrant=False)
        return states

    for found, wanted in zip(gradients(moved), gradients(lambda layers, states: layers(states)), strict=True):
        assert torch.equal(found, wanted)
    assert hooks.moved_bytes == 4 * STATE_BYTES


def test_memory_that_waits_is_not_the_layers(monkeypatch):
    """What autograd keeps is the host's copy: the activations themselves are gone when forward ends."""
    import weakref

    alive = []

    def run(layers, states):
        with OffloadedActivations():
            for layer in layers:
                states = layer(states)
                alive.append(weakref.ref(states.untyped_storage()))
        assert sum(one() is not None for one in alive) == 1
        return states

    gradients(run)


@pytest.mark.parametrize(
    ("count", "share", "chosen"),
    [
        (4, 1.0, [0, 1, 2, 3]),
        (4, 0.5, [0, 2]),
        (28, 0.25, [0, 4, 8, 12, 16, 20, 24]),
        (3, 0.01, [0]),
        (5, 0.6, [0, 2, 4]),
        (0, 0.5, []),
    ],
)
def test_blocks_are_spread_evenly(count, share, chosen):
    assert [index for index, is_chosen in enumerate(spread(count, share)) if is_chosen] == chosen
