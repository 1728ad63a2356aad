"""Faults of speech made from codes, a part said twice or left out: pairs for a preference where there are no takes."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Corruption(NamedTuple):
    """How a rejected sequence is made of codes ``y``."""

    kind: Literal["repeat", "lost"]
    """``repeat`` says ``y[start:end]`` twice; ``lost`` leaves it out."""
    start: int
    end: int

    @classmethod
    def drawn(cls, length: int, generator: torch.Generator | None = None) -> Corruption:
        """Draw a corruption of ``length`` codes: a coin, then two places in any order.

        Equal places, which would change nothing, are drawn again if there are two to choose from.
        """
        kind: Literal["repeat", "lost"] = "repeat" if _draw(2, generator) == 0 else "lost"
        start, end = sorted((_draw(length, generator), _draw(length, generator)))
        while start == end and length > 1:
            start, end = sorted((_draw(length, generator), _draw(length, generator)))
        return cls(kind, start, end)

    @classmethod
    def at(cls, length: int, *, seed: int, lap: int, row: int) -> Corruption:
        """Draw the corruption of a row in an epoch, of seed, lap and row alone.

        A continued run, and any number of workers, corrupts in the same way.
        """
        words = np.random.SeedSequence([abs(seed), lap, row]).generate_state(2)
        chance = torch.Generator().manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
        return cls.drawn(length, chance)

    def of(self, codes: Tensor) -> Tensor:
        """Return codes (Y, …) with the part said twice or left out."""
        start, end = self.start, self.end
        return torch.cat([codes[:end], codes[start:]] if self.kind == "repeat" else [codes[:start], codes[end:]])


def _draw(high: int, generator: torch.Generator | None) -> int:
    return int(torch.randint(0, high, (1,), generator=generator))
