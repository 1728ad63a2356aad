"""Cards that people rent or own: memory, and the arithmetic their makers state, from the data sheets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tts_train.errors import ConfigError

GIB = 2**30

PRODUCT_SHARE = 0.657
"""Share of a card's stated arithmetic that large products get: 650 of 989 TFLOP/s on an H100. Assumed for all cards."""
MEMORY_SHARE = 0.776
"""Share of a card's stated memory bandwidth that a kernel gets: 2.6 of 3.35 TB/s on an H100. Assumed for every card."""


@dataclass(frozen=True)
class Card:
    """One kind of GPU."""

    name: str
    memory_bytes: int
    """What torch sees as its total memory, about: sheets count in powers of ten or of two."""
    half_flops: float
    """Dense bfloat16 (where there is none, float16) products summed in float32, operations a second."""
    single_flops: float
    """Float32 without tensor cores, operations a second."""
    bandwidth: float
    """Of its memory, bytes a second."""

    @property
    def product_rate(self) -> float:
        """Operations a second that products in half precision are assumed to get."""
        return self.half_flops * PRODUCT_SHARE

    @property
    def single_product_rate(self) -> float:
        """Operations a second that products in float32 are assumed to get."""
        return self.single_flops * PRODUCT_SHARE

    @property
    def memory_rate(self) -> float:
        """Bytes a second that kernels are assumed to get."""
        return self.bandwidth * MEMORY_SHARE


def _card(name: str, gib: float, half: float, single: float, gigabytes: float) -> Card:
    return Card(name, int(gib * GIB), half * 1e12, single * 1e12, gigabytes * 1e9)


CARDS = (
    # Half: dense, summed in float32, which is half of what consumer cards' sheets print for float16 sums.
    _card("RTX 3060", 11.6, 25.5, 12.7, 360),
    _card("RTX 3090", 23.6, 71, 35.6, 936),
    _card("RTX 4060 Ti", 15.6, 44, 22.1, 288),
    _card("RTX 4090", 23.5, 165, 82.6, 1008),
    _card("RTX 5090", 31.3, 209, 104.8, 1792),
    _card("T4", 14.6, 65, 8.1, 320),
    _card("L4", 22.0, 121, 30.3, 300),
    _card("A10", 22.0, 125, 31.2, 600),
    _card("RTX A6000", 47.4, 154, 38.7, 768),
    _card("L40S", 44.4, 362, 91.6, 864),
    _card("A100 40GB", 39.4, 312, 19.5, 1555),
    _card("A100 80GB", 79.2, 312, 19.5, 2039),
    _card("H100", 79.1, 989, 67, 3350),
    _card("H200", 139.8, 989, 67, 4800),
)

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(gib|gb|g|mib|mb)?", re.IGNORECASE)
_UNITS = {"gib": GIB, "gb": GIB, "g": GIB, "mib": 2**20, "mb": 2**20}


def card_named(given: str) -> Card:
    """Return a card by its name or the end of one, such as ``4090``; of several sizes the largest (``A100``).

    Raises:
        ConfigError: if there is none.
    """
    # "4090" and "rtx-4090" are what people type.
    word = _plain(given)
    found = [card for card in CARDS if _plain(card.name) == word or card.name.lower().split()[-1] == word]
    found = found or [card for card in CARDS if _plain(card.name).startswith(word)]
    if not word or not found:
        raise ConfigError(f"--card is one of {', '.join(card.name for card in CARDS)}, and {given!r} was given.")
    return max(found, key=lambda card: card.memory_bytes)


def memory_of(given: str, *, option: str = "--gpu") -> int:
    """Return the bytes of ``24GiB``, ``24GB`` (cards are sold in GB and mean GiB), or of a card by its name.

    Args:
        given: What was given.
        option: With which option, for the error.

    Raises:
        ConfigError: if it is neither.
    """
    for card in CARDS:
        if _plain(card.name) == _plain(given):
            return card.memory_bytes
    found = _SIZE.fullmatch(given.strip())
    if found is None or float(found[1]) <= 0:
        names = ", ".join(card.name for card in CARDS)
        raise ConfigError(f"{option} is an amount of memory such as 24GiB or one of {names}, and {given!r} was given.")
    return int(float(found[1]) * _UNITS[(found[2] or "gib").lower()])


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "")
