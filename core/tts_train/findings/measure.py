"""What is measured of each clip, what a finding is, and how findings are told from the measures of all clips."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from numpy.typing import NDArray

from tts_train.contract.metric import Take

INSTALL = "pip install 'tts-train[corpus]'"


@dataclass(frozen=True, kw_only=True)
class Examined:
    """One row as it is measured."""

    take: Take
    """Its sound (mono, offset taken out), text and language."""
    speaker: str | None
    raw: NDArray[Any]
    """(time, channels) float32 as decoded, before anything was done to it."""
    raw_rate: int
    """Of :attr:`raw`, in Hz."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What all measures found out about one row."""

    origin: str
    """Where the row stands: ``corpus.jsonl:12``, or the clip's path; unique in its corpus."""
    text: str
    speaker: str | None
    language: str | None
    seconds: float
    figures: Mapping[str, Any] = field(default_factory=dict)
    """By name, in plain types (numbers, strings, lists of them); a measure that could not be taken gives none."""


class Measure(ABC):
    """Measures one clip at a time, in any process. Making one is cheap: weights are loaded at the first clip."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """Optional packages it imports."""
    install: ClassVar[str] = INSTALL
    """What to type where one of them is missing."""
    version: ClassVar[int] = 1
    """Raised when the same clip gives other figures, so that kept ones are not used."""

    def missing(self) -> str | None:
        """Say what must be installed or given before anything can be measured; None if nothing."""
        absent = [package for package in self.packages if importlib.util.find_spec(package) is None]
        return f"{', '.join(absent)} is not installed: {self.install}" if absent else None

    def settings(self) -> Mapping[str, Any]:
        """Return what its figures depend on besides the clip, in plain types."""
        return {}

    @abstractmethod
    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return its figures by name, in plain types; without those that this clip does not have."""


@dataclass(frozen=True, kw_only=True)
class FindingKind:
    """One thing that may be wrong with a row."""

    name: str
    """What ``--drop`` takes: an identifier."""
    summary: str
    """One sentence: what is wrong."""
    advice: str
    """One sentence: what to do about it."""
    threshold: float
    """Figure from which on it is told."""
    unit: str = ""
    below: bool = False
    """Whether figures below the threshold are told; otherwise those above."""
    digits: int = 2


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with one row."""

    kind: str
    origin: str
    figure: float
    threshold: float
    detail: str = ""
    """What else helps a person: the other row, the words."""


class Judge(ABC):
    """Tells findings from the figures of all rows."""

    kinds: ClassVar[tuple[FindingKind, ...]]
    measures: ClassVar[tuple[type[Measure], ...]]
    """Whose figures it needs."""

    @abstractmethod
    def judge(self, rows: Sequence[Measured], thresholds: Mapping[str, float]) -> Iterable[Finding]:
        """Return what is wrong with which rows.

        Args:
            rows: all of the corpus.
            thresholds: by name of the kind.
        """
