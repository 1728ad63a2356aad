"""The largest batch that fits a card, with few steps: between two sizes the peak grows as a straight line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tts_train.memory.step.step import Step
from tts_train.memory.step.tracker import LASTING

_MOST = 1 << 20
_TRIES = 6
_CLOSE = 0.02
_COARSE = 1024
_FAR = 16
"""How many times larger or smaller than the first the second size may be."""


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
