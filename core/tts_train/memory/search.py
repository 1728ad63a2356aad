"""The largest batch that fits a card, or the least share of layers that is recomputed in backward, with few steps.

Between two sizes the peak grows as a straight line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from tts_train.contract.module import StageModule
from tts_train.memory.step.step import Step
from tts_train.memory.step.tracker import LASTING

# Tokens, or clips; a larger batch is no use to anybody.
_MOST = 1 << 20
_TRIES = 6
# Share of the size below which another step would gain nothing.
_CLOSE = 0.02
# From here on sizes are multiples of 64.
_COARSE = 1024
# How many times larger or smaller than the first the second size may be.
_FAR = 16


class LargestBatch:
    """Says which size to try next: the recipe's own, one that would fill the card if all that is short-lived grew
    in proportion, then where the straight line meets the card.

    The peak is the highest of many moments, each of which grows with the batch as a straight line, so it bends upwards:
    a guess between two sizes is never too large, one beyond them can be and is then corrected. What is returned was
    tried.

    Args:
        first: The recipe's own size.
        room: Memory of the card; None tries nothing but ``first``.
        needed: Memory that a step needs.
    """

    def __init__(self, first: int, room: int | None, needed: Callable[[Step], int]) -> None:
        self._first, self._room, self._needed = first, room, needed

    def __call__(self, steps: Sequence[Step]) -> int | None:
        """Return the next size, None when the largest is known closely enough."""
        if not steps:
            return self._first
        if self._room is None or len(steps) > _TRIES:
            return None
        tried = {step.size: self._needed(step) for step in steps}
        guess = self._in_proportion(steps[0]) if len(tried) == 1 else self._guess(tried)
        below = self.largest(steps) or 0
        above = min((size for size, bytes_ in tried.items() if bytes_ > self._room), default=None)
        close = below and abs(guess - below) <= _CLOSE * below
        # Guesses from below would creep along a bend; every other one halves what is left.
        if above is not None and not close and (guess >= above or (len(tried) % 2 == 0 and len(tried) > 2)):
            guess = (below + above) // 2
        guess = _rounded(min(guess, _MOST))
        return None if close or guess in tried or guess < 1 else guess

    def largest(self, steps: Sequence[Step]) -> int | None:
        """Return the largest size tried that fits; 0 where none does, None where there is no card."""
        if self._room is None:
            return None
        return max((step.size for step in steps if self._needed(step) <= self._room), default=0)

    def _in_proportion(self, step: Step) -> int:
        """Return the size at which what is not lasting fills the card, if it grows in proportion."""
        assert self._room is not None
        free = self._room - self._needed(step)
        passing = sum(size for kind, size in step.breakdown.items() if kind not in LASTING)
        if not passing:
            return step.size * 4 if free >= 0 else max(step.size // 4, 1)
        # The first guess knows one point only; weights and states stay what they are.
        factor = 1 + free / passing
        return max(1, int(step.size * min(max(factor, 1 / _FAR), _FAR)))

    def _guess(self, tried: dict[int, int]) -> int:
        assert self._room is not None
        room = self._room
        # The two sizes nearest to the card's memory, on both sides of it if there are such.
        near = sorted(tried.items(), key=lambda item: abs(item[1] - room))
        inside, outside = [i for i in near if i[1] <= room], [i for i in near if i[1] > room]
        (one, low), (other, high) = (inside[0], outside[0]) if inside and outside else near[:2]
        slope = (high - low) / (other - one)
        return one + int((room - low) / slope) if slope > 0 else _MOST


def _rounded(size: int) -> int:
    """Round down large sizes to a multiple of 64."""
    return size // 64 * 64 if size >= _COARSE else size


CHECKPOINTING, SHARE = "gradient_checkpointing", "checkpoint_share"
"""Options of a module that recomputes: whether it does, and the share of its layers, ``auto`` or up to 1."""
# Shares are whole parts of so many.
_PARTS = 20
_SHARE_TRIES = 2
# Parts by which a share that turned out too small grows.
_MARGIN = 1


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
        # The recipe's own size: shares are compared at one size of batch.
        return self._seeker([])

    def full(self, steps: Sequence[Step]) -> Sequence[Step]:
        """Return the steps with all layers recomputed."""
        # The steps in between had other shares.
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
        if last <= self._room or count >= 2 + _SHARE_TRIES:
            return None
        if count > 2:
            share = self._tried[-1] + _MARGIN / _PARTS
        else:
            share = (last - self._room) / max(last - self._needed(steps[0]), 1)
        # Up: a share that is too small does not fit, one too large costs a little time.
        share = math.ceil(share * _PARTS - 1e-9) / _PARTS
        return share if share < 1 else None
