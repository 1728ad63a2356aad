"""The same numbers everywhere: random numbers without a generator, initial weights, kernels that sum in one order.

A random number is a function of (seed, step, id), the same on every device, whatever is drawn beside it: a hash of
where it belongs, without generator or state. A row of a batch gets what it would get alone, a slice of the ids gets
what it has in the whole, and a CUDA graph can draw, since seeds and step may be tensors. The hash is ``lowbias32``, of
nearly ideal avalanche (C. Wellons, "Prospecting for Hash Functions", 2018, public domain). Tensors are int32, whose
products wrap around.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic
from torch import Tensor


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """Within the block, operators that have a deterministic CUDA implementation use it.

    An operator without one raises, so wrap only what has one. ``torch.empty`` is not filled with NaN, which
    ``torch.use_deterministic_algorithms`` would otherwise do at the cost of a pass over memory.
    """
    enabled = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic  # its one attribute is a property, which no type checker sees
    filled = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = filled and enabled
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        settings.fill_uninitialized_memory = filled


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Compute in true float32 whatever the caller has set: no autocast, no TF32.

    For what must not depend on the card, as a codec's choice between two codes.
    """
    precision = torch.get_float32_matmul_precision()
    # TF32 has 10 bits of fraction: a vector between two codes would get another one on another card.
    torch.set_float32_matmul_precision("highest")
    cudnn = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    try:
        with cudnn, torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


@contextmanager
def drawn_on_cpu(seed: int, *, like: torch.Tensor | None = None) -> Iterator[None]:
    """Within the block, modules are made on the CPU and drawn from ``seed``; no random stream of the run moves.

    Lightning builds networks while the run's device is torch's default one, on which the same seed gives other numbers.

    Args:
        seed: Of the CPU's generator; those of other devices are left alone.
        like: A tensor of what is added to; on ``meta`` nothing is drawn, and modules are made there.
    """
    device = torch.device("meta" if like is not None and like.is_meta else "cpu")
    # No device's generator is forked, since nothing is drawn there.
    with device, torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which seeds every device's generator too, and fork_rng would not put those back.
        torch.default_generator.manual_seed(seed)
        yield


FIRST, SECOND = 0x7FEB352D, 0x846CA68B
"""Multipliers."""
KEYS = (0x9E3779B9, 0x85EBCA6B)
"""Where the two key words of a stream begin, or what a step adds to each."""
MASK = 0xFFFFFFFF


def mixed(word: int) -> int:
    """Return the hash of an unsigned word."""
    word = (word ^ word >> 16) * FIRST & MASK
    word = (word ^ word >> 15) * SECOND & MASK
    return word ^ word >> 16


def mix_(words: Tensor) -> Tensor:
    """Replace int32 words by their hashes."""
    words = shift_xor_(words, 16).mul_(signed(FIRST))
    return shift_xor_(shift_xor_(words, 15).mul_(signed(SECOND)), 16)


def shift_xor_(words: Tensor, places: int) -> Tensor:
    """Do ``words ^= words >> places`` on int32 as if unsigned: torch shifts the sign in, which is cut off."""
    return words.bitwise_xor_((words >> places).bitwise_and_((1 << 32 - places) - 1))


def signed(word: int) -> int:
    """Return an unsigned word as int32."""
    return word - (1 << 32) if word >= 1 << 31 else word


_LOWEST_CHANCE = 2.0**-32
# The largest float32 below 1.
_HIGHEST_CHANCE = 1.0 - 2.0**-24


def seed_keys(seed: int | Tensor, device: torch.device | None = None) -> Tensor:
    """Return what a seed comes to, int32 (2, ...): it may be given in place of the seed, and saves work at each step.

    Args:
        seed: One seed, or an int64 tensor of seeds.
        device: Where it goes, for a single seed.
    """
    seeds = _as_tensor(seed, device)
    # Two keys of a stream, since two streams that differ in one 32-bit word only would hold the same bits reordered.
    first = mix_(torch.stack([_wrapped(seeds) ^ signed(key) for key in KEYS]))
    return mix_(first.bitwise_xor_(_wrapped(seeds >> 32)))


def counter_bits(seed: int | Tensor, step: int | Tensor, ids: Tensor) -> Tensor:
    """Return 32 random bits for each id as int32, equal on every device.

    Args:
        seed: One seed, an int64 tensor of seeds that broadcasts against ``ids``, where (B, 1) against (n,) gives
            (B, n), or the int32 :func:`seed_keys` of either.
        step: The number of the draw, one or an int64 tensor like the seeds; only its lowest 32 bits count, and so do
            the ids'.
        ids: Integers; which one of a draw.
    """
    ready = isinstance(seed, Tensor) and seed.dtype == torch.int32
    keys = seed if isinstance(seed, Tensor) and ready else seed_keys(seed, ids.device)
    steps = _wrapped(_as_tensor(step, ids.device))
    first, second = (mix_(key ^ steps) for key in keys)
    return mix_(mix_(ids.to(torch.int32) ^ first).bitwise_xor_(second))


def uniform_noise(seed: int | Tensor, step: int | Tensor, ids: Tensor) -> Tensor:
    """Return a float32 above 0 and below 1 for each id, equal on every device; arguments are of :func:`counter_bits`.

    Small numbers are drawn as finely as 2**-32.
    """
    # 31 bits become a float32 without a sign; the few that round up to 1 are clamped.
    whole = (counter_bits(seed, step, ids) & 0x7FFFFFFF).float()
    return whole.mul_(2.0**-31).add_(_LOWEST_CHANCE).clamp_(max=_HIGHEST_CHANCE)


def exponential_noise(seed: int | Tensor, step: int | Tensor, ids: Tensor) -> Tensor:
    """Return unit exponential noise in float32, between 2**-32 and 16.7; arguments are of :func:`counter_bits`.

    Devices agree up to the last bit of their logarithms.
    """
    # -log1p(-u): exact also where u is small, where log(1 - u) would be 0.
    return uniform_noise(seed, step, ids).neg_().log1p_().neg_()


def _as_tensor(value: int | Tensor, device: torch.device | None) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(torch.int64)
    # Filled rather than copied from the host, which a CUDA graph could not capture.
    return torch.full((), (value + 2**63) % 2**64 - 2**63, dtype=torch.int64, device=device)


def _wrapped(value: Tensor) -> Tensor:
    """Return the lowest 32 bits as int32."""
    return value.bitwise_left_shift(32).bitwise_right_shift(32).to(torch.int32)
