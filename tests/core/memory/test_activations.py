"""Activations in host memory: the same gradients, weights stay, and which blocks are recomputed."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tts_train.nn import activations
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


def test_each_is_fetched_once_and_the_next_one_ahead(monkeypatch):
    fetched, given = [], []
    fetch, back = activations._Moved.fetch, activations._Moved.back

    def noted_fetch(moved):
        if moved._fetched is None:
            fetched.append(moved.place)
        fetch(moved)

    def noted_back(moved):
        given.append((moved.place, list(fetched)))
        return back(moved)

    monkeypatch.setattr(activations._Moved, "fetch", noted_fetch)
    monkeypatch.setattr(activations._Moved, "back", noted_back)

    def moved(layers, states):
        with OffloadedActivations():
            return layers(states)

    gradients(moved)
    assert fetched == list(range(7, -1, -1))
    assert [place for place, _ in given] == list(range(7, -1, -1))
    assert all(place in so_far for place, so_far in given[1:])


def test_backward_twice_gives_the_same():
    layers, states = net(), torch.randn(TOKENS, WIDTH, requires_grad=True)
    with OffloadedActivations():
        loss = layers(states).square().mean()
    first = torch.autograd.grad(loss, states, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, states)[0], first)


@pytest.mark.gpu
def test_on_a_card_gradients_are_the_same_and_memory_is_less():
    def run(offload):
        torch.manual_seed(0)
        layers = nn.Sequential(*(nn.Sequential(nn.Linear(2048, 2048), nn.Tanh()) for _ in range(16))).cuda()
        states = torch.randn(8192, 2048, device="cuda", requires_grad=True)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        with OffloadedActivations() if offload else nullcontext():
            loss = layers(states).square().mean()
        # Less what was there: weights, and the gradients of the runs before, which are compared.
        kept = torch.cuda.memory_allocated() - before
        loss.backward()
        return [states.grad, *(p.grad for p in layers.parameters())], kept

    run(False)  # cuBLAS takes its workspace
    plain, all_kept = run(False)
    for _ in range(3):
        moved, kept = run(True)
        assert [index for index, pair in enumerate(zip(moved, plain, strict=True)) if not torch.equal(*pair)] == []
        # Sixteen outputs of 64 MiB, or the two of them that were on their way and what the loss is made of.
        assert kept < all_kept / 2
