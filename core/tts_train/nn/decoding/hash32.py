"""A 32-bit mixing function for random bits that are a function of where they belong, on tensors and on numbers.

``lowbias32``, of nearly ideal avalanche (C. Wellons, "Prospecting for Hash Functions", 2018, public domain). Tensors
are int32, whose products wrap around.
"""

from __future__ import annotations

from torch import Tensor

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
