"""What is measured of each clip, what a finding is, and how findings are told from the measures of all clips."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    near: tuple[str, ...] = ()
    """Texts of the rows around it, as many as any measure asks for; see :attr:`Measure.around`."""


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
    """Of all measures, by name, in plain types (numbers, strings, lists of them); one that was not taken gives none."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Why a measure could not be taken of this row, by its name."""


class NotMeasured(Exception):
    """A clip that a measure cannot be taken of; the message says why in a few words, and rows are counted by it."""


class Measure(ABC):
    """Measures one clip at a time, in any process. Making one is cheap: weights are loaded at the first clip."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()
    """Optional packages it imports."""
    install: ClassVar[str] = INSTALL
    """What to type where one of them is missing."""
    version: ClassVar[int] = 1
    """Raised when the same clip gives other figures, so that kept ones are not used."""
    reads_text: ClassVar[bool] = False
    """Whether its figures depend on the row's text and language, too, and not on the sound alone."""
    around: ClassVar[int] = 0
    """Rows before and behind each one whose texts its figures depend on, too."""

    def missing(self) -> str | None:
        """Say what must be installed or given before anything can be measured; None if nothing."""
        absent = [package for package in self.packages if importlib.util.find_spec(package) is None]
        return f"{', '.join(absent)} is not installed: {self.install}" if absent else None

    def settings(self) -> Mapping[str, Any]:
        """Return what its figures depend on besides the clip, in plain types."""
        return {}

    @abstractmethod
    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return its figures by name, in plain types; without those that this clip does not have.

        Raises:
            NotMeasured: where it has none at all, with the reason.
        """


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
    source: str = ""
    """One sentence: where the threshold comes from."""
    reasons: tuple[str, ...] = ()
    """Rows that are dropped for these reasons, whatever is asked, are told under this kind, too."""
    harmless: bool = False
    """Whether training does without anybody's doing something about it."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """The figure of one row for one kind of finding."""

    figure: float
    detail: str = ""
    """What else helps a person: the other row, the words."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with one row."""

    kind: str
    origin: str
    figure: float
    threshold: float
    detail: str = ""
    """What else helps a person: the other row, the words."""
    dropped: bool = False
    """Whether the row is dropped anyway, for a reason that :attr:`detail` tells; its figure is the threshold."""


class Judge(ABC):
    """Tells findings from the figures of all rows."""

    kinds: ClassVar[tuple[FindingKind, ...]]
    measures: ClassVar[tuple[type[Measure], ...]]
    """Whose figures it needs."""

    @abstractmethod
    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the figure of each row, by name of the kind and by origin; rows without one are left out.

        All figures are drawn as a histogram with the threshold.
        """

    def judge(self, rows: Sequence[Measured], thresholds: Mapping[str, float]) -> Iterable[Finding]:
        """Return what is wrong with which rows.

        Args:
            rows: all of the corpus.
            thresholds: by name of the kind.
        """
        return beyond(self.kinds, self.figures(rows), thresholds)


def beyond(
    kinds: Iterable[FindingKind], figures: Mapping[str, Mapping[str, Told]], thresholds: Mapping[str, float]
) -> Iterator[Finding]:
    """Yield a finding for each figure that is beyond the threshold of its kind, or at it."""
    for kind in kinds:
        limit = thresholds[kind.name]
        for origin, told in figures.get(kind.name, {}).items():
            if told.figure <= limit if kind.below else told.figure >= limit:
                yield Finding(kind=kind.name, origin=origin, figure=told.figure, threshold=limit, detail=told.detail)
