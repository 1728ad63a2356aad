"""Noise by place: equal to a reference in unsigned arithmetic, evenly spread, independent of what is drawn beside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tts_train.nn.reproducible import counter_bits, exponential_noise, seed_keys, uniform_noise

IDS = torch.arange(156_940)


def reference(seed: int, step: int, ids: np.ndarray) -> np.ndarray:
    """The same hash in numpy's unsigned words, which wrap around by definition."""

    def mix(x: np.ndarray) -> np.ndarray:
        x = x ^ (x >> np.uint32(16))
        x = x * np.uint32(0x7FEB352D)
        x = x ^ (x >> np.uint32(15))
        x = x * np.uint32(0x846CA68B)
        return x ^ (x >> np.uint32(16))

    words = [np.array([w & 0xFFFFFFFF], np.uint32) for w in (seed, seed >> 32, step)]
    keys = [mix(mix(mix(words[0] ^ np.uint32(start)) ^ words[1]) ^ words[2]) for start in (0x9E3779B9, 0x85EBCA6B)]
    return mix(mix(ids.astype(np.uint32) ^ keys[0]) ^ keys[1]).view(np.int32)


@pytest.mark.parametrize("seed", [0, 1, 2**31 + 7, 2**40 + 3, 2**63 + 11, -5])
@pytest.mark.parametrize("step", [0, 1199, 2**31 + 5])
def test_bits_are_those_of_unsigned_arithmetic(seed, step):
    ids = IDS[:1003]
    assert np.array_equal(counter_bits(seed, step, ids).numpy(), reference(seed, step, ids.numpy()))


def test_slices_orders_and_batches_get_what_the_whole_has():
    whole = exponential_noise(7, 3, IDS)
    assert torch.equal(exponential_noise(7, 3, IDS[1000:5097]), whole[1000:5097])
    assert torch.equal(exponential_noise(7, 3, IDS[5:5000:3]), whole[5:5000:3])
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(0))
    assert torch.equal(exponential_noise(7, 3, IDS[order]), whole[order])
    assert torch.equal(exponential_noise(7, 3, IDS[77:78]), whole[77:78])
    batch = exponential_noise(torch.tensor([[6], [7]]), torch.tensor(3), IDS)
    assert torch.equal(batch[1], whole)
    assert torch.equal(exponential_noise(seed_keys(torch.tensor([[6], [7]])), torch.tensor(3), IDS), batch)
    assert torch.equal(exponential_noise(torch.tensor([[7]]), 3, IDS.expand(2, -1))[1], whole)


def test_every_bit_is_a_coin():
    for seed in range(4):
        bits = counter_bits(seed, 5, IDS).numpy().view(np.uint32)
        ones = np.array([((bits >> np.uint32(b)) & 1).mean() for b in range(32)])
        # Five standard deviations of a share of one half in 156,940 draws.
        assert np.abs(ones - 0.5).max() < 5 * 0.5 / len(IDS) ** 0.5


def test_uniform_noise_is_uniform_and_never_0_or_1():
    for seed, step in ((0, 0), (1, 0), (0, 1), (12345, 678)):
        values = uniform_noise(seed, step, IDS)
        assert float(values.min()) > 0
        assert float(values.max()) < 1
        counts = torch.histc(values, 100, 0, 1)
        expected = len(IDS) / 100
        chi_squared = float(((counts - expected) ** 2 / expected).sum())
        assert chi_squared < 99 + 5 * (2 * 99) ** 0.5


def test_exponential_noise_has_its_moments():
    values = exponential_noise(torch.arange(8)[:, None], 0, IDS).double()
    assert torch.isfinite(values).all()
    assert (values > 0).all()
    assert float(values.mean()) == pytest.approx(1, abs=5 / values.numel() ** 0.5)
    assert float(values.var()) == pytest.approx(1, abs=5 * 8**0.5 / values.numel() ** 0.5)


@pytest.mark.parametrize(
    ("one", "other"), [((0, 0), (1, 0)), ((0, 0), (0, 1)), ((3, 8), (8, 3)), ((0, 0), (2**32, 0)), ((5, 1), (4, 1))]
)
def test_streams_are_independent(one, other):
    left, right = (uniform_noise(*stream, IDS) - 0.5 for stream in (one, other))
    far = 5 / 12 / len(IDS) ** 0.5
    assert abs(float((left * right).mean())) < far
    # Two sets of that many words share 6 by chance; the same words in another order would share all.
    assert len(np.intersect1d(counter_bits(*one, IDS).numpy(), counter_bits(*other, IDS).numpy())) < 30
    # Not shifted or reordered within blocks either: neighbours, and ids that differ in one bit.
    for bit in range(17):
        paired = right[(torch.arange(2**17) ^ (1 << bit)).clamp(max=len(IDS) - 1)]
        assert abs(float((left[: 2**17] * paired).mean())) < far


def test_neighbouring_ids_and_steps_are_independent():
    values = uniform_noise(9, torch.arange(64)[:, None], IDS[:4096]) - 0.5
    for a, b in ((values[:, 1:], values[:, :-1]), (values[1:], values[:-1])):
        assert abs(float((a * b).mean())) < 5 / 12 / a.numel() ** 0.5


def test_large_gumbel_noise_is_fine_enough():
    # A draw is decided by the smallest exponentials, which must not lie on a coarse grid.
    small = exponential_noise(torch.arange(20)[:, None], 1, IDS).flatten()
    small = small[small < 2**-10]
    assert len(torch.unique(small)) > 0.99 * len(small)


def test_no_generator_is_touched():
    before = torch.get_rng_state()
    uniform_noise(1, 2, IDS)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.gpu
def test_a_card_draws_the_same_and_in_a_graph():
    assert torch.equal(counter_bits(3, 4, IDS.cuda()).cpu(), counter_bits(3, 4, IDS))
    assert torch.equal(uniform_noise(3, 4, IDS.cuda()).cpu(), uniform_noise(3, 4, IDS))
    seeds, step, ids = torch.tensor([[3], [9]]).cuda(), torch.tensor(0).cuda(), IDS.cuda()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = uniform_noise(seeds, step, ids)
        step += 1
    for number in range(3):
        graph.replay()
        assert torch.equal(drawn[1].cpu(), uniform_noise(9, number, IDS))
