"""Random numbers as a function of (seed, step, id): the same on every device, whatever is drawn beside them.

No generator and no state: a number is a hash of where it belongs. A row of a batch gets what it would get alone, a
slice of the ids gets what it has in the whole, and a CUDA graph can draw, since seeds and step may be tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
"""Of ``lowbias32``, a 32-bit mixing function of nearly ideal avalanche (Wellons 2018, "Prospecting for Hash
Functions")."""
_KEYS = (0x9E3779B9, 0x85EBCA6B)
"""Different starting points of the two keys of a stream."""
_LOWEST_CHANCE = 2.0**-32
_HIGHEST_CHANCE = 1.0 - 2.0**-24
"""The largest float32 below 1."""


def counter_bits(seed: int | Tensor, step: int | Tensor, ids: Tensor) -> Tensor:
    """Return 32 random bits for each id as int32, equal on every device.

    Args:
        seed: One seed, or an int64 tensor of seeds that broadcasts against ``ids``: (B, 1) against (n,) gives (B, n).
        step: The same for the number of the draw; only its lowest 32 bits count, and so do the ids'.
        ids: Integers; which one of a draw.
    """
    ids = ids.to(torch.int32)
    seeds, steps = _as_tensor(seed, ids), _as_tensor(step, ids)
    low, high, step32 = _wrapped(seeds), _wrapped(seeds >> 32), _wrapped(steps)
    # Two keys of a stream, since two streams that differ in one 32-bit word only would hold the same bits reordered.
    keys = _mixed_(torch.stack([low ^ _signed(key) for key in _KEYS]))
    first, second = (_mixed_(key ^ step32) for key in _mixed_(keys ^ high))
    return _mixed_(_mixed_(ids ^ first) ^ second)


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


def _as_tensor(value: int | Tensor, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(torch.int64)
    # Filled rather than copied from the host, which a CUDA graph could not capture.
    return torch.full((), (value + 2**63) % 2**64 - 2**63, dtype=torch.int64, device=like.device)


def _wrapped(value: Tensor) -> Tensor:
    """Return the lowest 32 bits as int32."""
    low = value & _WORD
    return torch.where(low > 0x7FFFFFFF, low - 2**32, low).to(torch.int32)


def _signed(value: int) -> int:
    return value - 2**32 if value > 0x7FFFFFFF else value


def _mixed_(bits: Tensor) -> Tensor:
    """Mix int32 words in place. Products wrap around; torch shifts signed words, so the sign is cut off."""
    one, two = (_signed(multiplier) for multiplier in _MULTIPLIERS)
    bits ^= (bits >> 16) & 0xFFFF
    bits *= one
    bits ^= (bits >> 15) & 0x1FFFF
    bits *= two
    bits ^= (bits >> 16) & 0xFFFF
    return bits
