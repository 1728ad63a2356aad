"""Cards that people rent or own: memory, and the arithmetic their makers state, from the data sheets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tts_train.errors import ConfigError

GIB = 2**30

UTILISATION = (0.2, 0.45)
"""Share of a card's stated arithmetic that a training run gets, from a small network in short batches to a large one in
long ones. It is assumed, not measured: time per epoch is known to within this factor, no better."""


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


def _card(name: str, gib: float, half: float, single: float) -> Card:
    return Card(name, int(gib * GIB), half * 1e12, single * 1e12)


CARDS = (
    _card("RTX 3060", 11.6, 25.5, 12.7),
    _card("RTX 3090", 23.6, 71, 35.6),
    _card("RTX 4060 Ti", 15.6, 44, 22.1),
    _card("RTX 4090", 23.5, 165, 82.6),
    _card("RTX 5090", 31.3, 209, 104.8),
    _card("T4", 14.6, 65, 8.1),
    _card("L4", 22.0, 121, 30.3),
    _card("A10", 22.0, 125, 31.2),
    _card("RTX A6000", 47.4, 154, 38.7),
    _card("L40S", 44.4, 362, 91.6),
    _card("A100 40GB", 39.4, 312, 19.5),
    _card("A100 80GB", 79.2, 312, 19.5),
    _card("H100", 79.1, 989, 67),
    _card("H200", 139.8, 989, 67),
)

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(gib|gb|g|mib|mb)?", re.IGNORECASE)
_UNITS = {"gib": GIB, "gb": GIB, "g": GIB, "mib": 2**20, "mb": 2**20}


def memory_of(given: str) -> int:
    """Return the bytes of ``24GiB``, ``24GB`` (cards are sold in GB and mean GiB), or of a card by its name.

    Raises:
        ConfigError: if it is neither.
    """
    for card in CARDS:
        if card.name.lower().replace(" ", "") == given.lower().replace(" ", "").replace("-", ""):
            return card.memory_bytes
    found = _SIZE.fullmatch(given.strip())
    if found is None or float(found[1]) <= 0:
        names = ", ".join(card.name for card in CARDS)
        raise ConfigError(f"--gpu is an amount of memory such as 24GiB or one of {names}, and {given!r} was given.")
    return int(float(found[1]) * _UNITS[(found[2] or "gib").lower()])
