"""Rounding float32 to bfloat16 so that small changes survive on average, with bits that no generator has to keep.

The random bits are a function of (seed, parameter, step, element) alone: the same on every card and on a CPU, however a
parameter is cut into pieces or divided over processes. The function is a 32-bit integer hash of the multiply and
xorshift family (constants: C. Wellons, "Prospecting for Hash Functions", 2018, public domain), with a key word before
each of its two multiplications. A counter-based generator of full strength (Philox, Salmon et al. 2011) takes several
times the operations, and nobody must be kept from guessing these bits. One hash serves two elements, each with 16 bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

FIRST, SECOND = 0x7FEB352D, 0x846CA68B
"""Multipliers of the hash."""
GOLDEN, OTHER = 0x9E3779B9, 0x85EBCA6B
"""What a step adds to each key word, before they are mixed."""
_MASK = 0xFFFFFFFF
_EXPONENT = 0x7F800000
_CHUNK = 1 << 17
"""Elements rounded at a time on a CPU, so that what is in between stays in its cache."""


def parameter_key(seed: int, place: int) -> tuple[int, int]:
    """Return the two 32-bit key words of a parameter, ``place`` being its number in the optimiser (splitmix64)."""
    mixed = ((seed << 32) + place + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 31
    return mixed & _MASK, mixed >> 32


def step_key(key: tuple[int, int], count: int) -> tuple[int, int]:
    """Return the key words of a parameter's step ``count``."""
    return _mixed(key[0] + count * GOLDEN & _MASK), _mixed(key[1] + count * OTHER & _MASK)


def noise(start: int, end: int, key: tuple[int, int], device: torch.device) -> Tensor:
    """Return 16 random bits, as int32, for each of the elements ``start`` to ``end`` of a parameter."""
    words = torch.arange(start // 2, (end + 1) // 2, device=device).to(torch.int32)  # wraps after 2^33 elements
    words.bitwise_xor_(_signed(key[0]))
    _shift_xor(words, 16)
    words.mul_(_signed(FIRST))
    _shift_xor(words, 15)
    words.add_(_signed(key[1])).mul_(_signed(SECOND))
    _shift_xor(words, 16)
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


def _shift_xor(words: Tensor, places: int) -> None:
    """``words ^= words >> places``, with zeros shifted in."""
    words.bitwise_xor_((words >> places).bitwise_and_((1 << 32 - places) - 1))


def _mixed(word: int) -> int:
    word = (word ^ word >> 16) * FIRST & _MASK
    word = (word ^ word >> 15) * SECOND & _MASK
    return word ^ word >> 16


def _signed(word: int) -> int:
    return word - (1 << 32) if word >= 1 << 31 else word
