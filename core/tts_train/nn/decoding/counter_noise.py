"""Random numbers as a function of (seed, step, id): the same on every device, whatever is drawn beside them.

No generator and no state: a number is a hash of where it belongs. A row of a batch gets what it would get alone, a
slice of the ids gets what it has in the whole, and a CUDA graph can draw, since seeds and step may be tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tts_train.nn.decoding.hash32 import KEYS, mix_, signed

_LOWEST_CHANCE = 2.0**-32
_HIGHEST_CHANCE = 1.0 - 2.0**-24
"""The largest float32 below 1."""


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
    whole = (counter_bits(seed, step, ids) & 0x7FFFFFFF).float()
    return whole.mul_(2.0**-31).add_(_LOWEST_CHANCE).clamp_(max=_HIGHEST_CHANCE)


def exponential_noise(seed: int | Tensor, step: int | Tensor, ids: Tensor) -> Tensor:
    """Return unit exponential noise in float32, between 2**-32 and 16.7; arguments are of :func:`counter_bits`.

    Devices agree up to the last bit of their logarithms.
    """
    return uniform_noise(seed, step, ids).neg_().log1p_().neg_()


def _as_tensor(value: int | Tensor, device: torch.device | None) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(torch.int64)
    # Filled rather than copied from the host, which a CUDA graph could not capture.
    return torch.full((), (value + 2**63) % 2**64 - 2**63, dtype=torch.int64, device=device)


def _wrapped(value: Tensor) -> Tensor:
    """Return the lowest 32 bits as int32."""
    return value.bitwise_left_shift(32).bitwise_right_shift(32).to(torch.int32)
