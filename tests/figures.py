"""A reference figure beside our own, and the rule that says whether they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure of a reference file, recomputed.

    ``expected`` and ``got`` are numbers, strings, or (nested) lists and mappings of them. Numbers agree when they are
    apart by no more than ``tolerance + relative * abs(expected)``; everything else agrees when it is equal.
    """

    name: str
    expected: Any
    got: Any
    tolerance: float = 0.0
    """Largest absolute difference allowed."""
    relative: float = 0.0
    """Largest difference allowed as a share of the expected number; added to ``tolerance``."""
    may_differ: int = 0
    """How many leaves of a list may disagree, for integer codes whose nearest entries tie to rounding."""
    note: str = ""
    """Why the figure fails or what it stands for; printed after the verdict."""

    @property
    def error(self) -> float:
        """The largest absolute difference; infinite where the two have different shapes, kinds or a NaN."""
        return max((apart for apart, _ in self._pairs()), default=0.0)

    @property
    def differing(self) -> int:
        """How many leaves are further apart than the tolerance allows."""
        return sum(apart > allowed for apart, allowed in self._pairs())

    @property
    def ok(self) -> bool:
        """Whether the two agree."""
        if self.may_differ and not math.isfinite(self.error):
            return False
        return self.differing <= self.may_differ

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "FAIL"
        line = (
            f"{self.name}  expected {_short(self.expected)}  got {_short(self.got)}  error {self.error:.3g}  {verdict}"
        )
        return f"{line}  ({self.note})" if self.note else line

    def _pairs(self) -> list[tuple[float, float]]:
        return list(_compare(self.expected, self.got, self.tolerance, self.relative))


def unknown(name: str, value: Any) -> Figure:
    """Return a figure that fails because nothing here knows how to recompute it."""
    return Figure(name, value, None, note="no rule recomputes this figure")


def _compare(expected: Any, got: Any, tolerance: float, relative: float) -> list[tuple[float, float]]:
    """Return (distance, allowed distance) for every leaf."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        if list(expected) != list(got):
            return [(math.inf, 0.0)]
        return [pair for key in expected for pair in _compare(expected[key], got[key], tolerance, relative)]
    if _is_list(expected) and _is_list(got):
        if len(expected) != len(got):
            return [(math.inf, 0.0)]
        return [pair for a, b in zip(expected, got, strict=True) for pair in _compare(a, b, tolerance, relative)]
    if _is_number(expected) and _is_number(got):
        apart = abs(expected - got)
        return [(math.inf if math.isnan(apart) else apart, tolerance + relative * abs(expected))]
    return [(0.0 if type(expected) is type(got) and expected == got else math.inf, 0.0)]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = f"{value:.9g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"
