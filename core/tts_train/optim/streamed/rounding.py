"""Rounding float32 to bfloat16 so that small changes survive on average, with bits that no generator has to keep.

The random bits are a function of (seed, parameter, step, element) alone: the same on every card and on a CPU, however a
parameter is cut into pieces or divided over processes. The function is :mod:`tts_train.nn.decoding.hash32`, with a key
word before each of its two multiplications. A counter-based generator of full strength (Philox, Salmon et al. 2011)
takes several times the operations, and nobody must be kept from guessing these bits. One hash serves two elements, each
with 16 bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tts_train.nn.decoding.hash32 import FIRST, KEYS, MASK, SECOND, mixed, shift_xor_, signed

_EXPONENT = 0x7F800000
_CHUNK = 1 << 17
"""Elements rounded at a time on a CPU, so that what is in between stays in its cache."""


def parameter_key(seed: int, place: int) -> tuple[int, int]:
    """Return the two 32-bit key words of a parameter, ``place`` being its number in the optimiser (splitmix64)."""
    word = ((seed << 32) + place + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    word = (word ^ word >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    word ^= word >> 31
    return word & MASK, word >> 32


def step_key(key: tuple[int, int], count: int) -> tuple[int, int]:
    """Return the key words of a parameter's step ``count``."""
    first, second = (mixed(word + count * added & MASK) for word, added in zip(key, KEYS, strict=True))
    return first, second


def noise(start: int, end: int, key: tuple[int, int], device: torch.device) -> Tensor:
    """Return 16 random bits, as int32, for each of the elements ``start`` to ``end`` of a parameter."""
    words = torch.arange(start // 2, (end + 1) // 2, device=device).to(torch.int32)  # wraps after 2^33 elements
    shift_xor_(words.bitwise_xor_(signed(key[0])), 16).mul_(signed(FIRST))
    shift_xor_(words, 15).add_(signed(key[1])).mul_(signed(SECOND))
    shift_xor_(words, 16)
    halves = words.view(torch.int16)[start % 2 : start % 2 + end - start]  # the lower half is the even element's
    return halves.to(torch.int32).bitwise_and_(0xFFFF)


def round_stochastically(values: Tensor, key: tuple[int, int], *, start: int = 0) -> Tensor:
    """Round float32 ``values`` to one of their two bfloat16 neighbours, each the likelier the nearer it is.

    The expected result is the value itself (Gupta et al. 2015, arXiv 1502.02551): 16 random bits are added below the
    bits that bfloat16 keeps, and what is left below is cut off. A value that bfloat16 can hold stays as it is, and so
    do infinities and NaN.

    Args:
        values: Float32 tensor, flat.
        key: The step's, from :func:`step_key`.
        start: Number of the first element within its parameter.
    """
    rounded = torch.empty_like(values, dtype=torch.bfloat16)
    size = _CHUNK if values.device.type == "cpu" else max(values.numel(), 1)
    for begin in range(0, values.numel(), size):
        part = values[begin : begin + size]
        bits = noise(start + begin, start + begin + part.numel(), key, values.device)
        bits.add_(part.view(torch.int32)).bitwise_and_(-(1 << 16))
        # A NaN can have every mantissa bit set; the noise would carry it over into a number.
        finite = part.view(torch.int32).bitwise_and(_EXPONENT) != _EXPONENT
        rounded[begin : begin + size].copy_(torch.where(finite, bits.view(torch.float32), part))
    return rounded
