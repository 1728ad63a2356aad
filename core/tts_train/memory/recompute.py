"""How much is recomputed in backward: as little as a card has room for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from tts_train.contract.module import StageModule
from tts_train.memory.search import LargestBatch
from tts_train.memory.step.step import Step

CHECKPOINTING, SHARE = "gradient_checkpointing", "checkpoint_share"
"""Options of a module that recomputes: whether it does, and the share of its layers, ``auto`` or up to 1."""
_PARTS = 20
"""Shares are whole parts of so many."""
_TRIES = 2
_MARGIN = 1
"""Parts by which a share that turned out too small grows."""


def recomputes(module: nn.Module) -> StageModule | None:
    """Return the module if it leaves to the plan how much it recomputes."""
    return module if isinstance(module, StageModule) and module.recompute_auto else None


class LeastRecomputed:
    """Says which size to try next: the recipe's own with all layers recomputed, with none, and with the share at which
    a straight line between the two meets the card; then what :class:`LargestBatch` asks for, all layers recomputed.

    Memory is the highest of many moments, so the line may lie below it: a share is tried before it is chosen.

    Args:
        module: What recomputes.
        seeker: Looks for the largest batch.
        room: Memory of the card; None tries nothing but recomputing all.
        needed: Memory that a step needs.
    """

    def __init__(
        self, module: StageModule, seeker: LargestBatch, room: int | None, needed: Callable[[Step], int]
    ) -> None:
        self._module, self._seeker, self._room, self._needed = module, seeker, room, needed
        self._tried: list[float] = []

    def __call__(self, steps: Sequence[Step]) -> int | None:
        """Set the share and return the next size; None when share and size are known."""
        share = self._next_share(steps)
        if share is None:
            self._module.recompute(1.0)
            return self._seeker(self.full(steps))
        self._tried.append(share)
        self._module.recompute(share)
        return self._seeker([])

    def full(self, steps: Sequence[Step]) -> Sequence[Step]:
        """Return the steps with all layers recomputed."""
        return [*steps[:1], *steps[len(self._tried) :]]

    def chosen(self, steps: Sequence[Step]) -> tuple[float, Step]:
        """Return the least share tried that fits, and its step; all where no card was named or none fits."""
        tried = zip(self._tried, steps, strict=False)
        fitting = [one for one in tried if self._room is not None and self._needed(one[1]) <= self._room]
        return min(fitting, key=lambda one: one[0], default=(1.0, steps[0]))

    def _next_share(self, steps: Sequence[Step]) -> float | None:
        count = len(self._tried)
        if count == 0:
            return 1.0
        if self._room is None or len(steps) > count or self._needed(steps[0]) > self._room:
            return None
        if count == 1:
            return 0.0
        last = self._needed(steps[count - 1])
        if last <= self._room or count >= 2 + _TRIES:
            return None
        if count > 2:
            share = self._tried[-1] + _MARGIN / _PARTS
        else:
            share = (last - self._room) / max(last - self._needed(steps[0]), 1)
        share = math.ceil(share * _PARTS - 1e-9) / _PARTS
        return share if share < 1 else None
