"""What jobs report: figures with names and types, printed and read as a mapping of plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

FACTS, MORE = "facts", "more"


# eq=False: a report equals the plain dict of its figures, as Mapping compares them.
@dataclass(frozen=True, kw_only=True, eq=False)
class Report(Mapping[str, Any]):
    """What a job did, in plain types; ``--json`` prints it.

    It reads as a mapping of its fields, in their order, without those that are None. ``facts`` and ``more`` are not
    entries but hold some: ``facts`` where the field stands, ``more`` at the end.
    """

    more: Mapping[str, Any] = field(default_factory=dict)
    """Further figures of the job's own, by name."""

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as they are printed."""
        figures: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == FACTS:
                figures.update(value)
            elif each.name != MORE and value is not None:
                figures[each.name] = value
        return {**figures, **self.more}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a plain value
        return self.as_dict()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())


@dataclass(frozen=True, kw_only=True, eq=False)
class PrepareReport(Report):
    """What became of a corpus, and of its rows in the prepared folder."""

    rows: int
    kept: int
    dropped: Mapping[str, int]
    """Rows by reason."""
    hours: float
    """Of the recordings that are kept."""
    speakers: Mapping[str, int]
    languages: Mapping[str, int]
    warnings: Mapping[str, int]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What :meth:`tts_train.contract.prepare.ShardedPrepare.facts` returns."""
    tokens: int
    """In all rows together."""
    hash: str
    """Of the content: the same for the same rows, settings and networks."""
    out: str
    """The prepared folder."""
    shards_written: int
    shards_reused: int
    rows_reused: int
    audio_seconds_per_second: float
    """Speech encoded in a second."""
    seconds: float
    """That the command took."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportReport(Report):
    """What was written, and whether it reads back as it was trained."""

    format: str
    path: str
    """Folder or file."""
    files: list[str]
    """Names of the files in the folder."""
    verified: bool
    """Whether the files were read back and compared."""
    dtype: str | None = None
    """Type of the numbers, where there is a choice."""
    base: str | None = None
    """The model that an adapter belongs to."""
    step: int | None = None
    """Optimiser steps that the weights were trained for."""
    measured: Mapping[str, Any] | None = None
    """How far what was read back differs from what was trained."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SynthReport(Report):
    """What was spoken, or why there is no sound."""

    path: str | None = None
    """The sound file."""
    seconds: float | None = None
    """Its length."""
    error: str | None = None
    """Why there is none, where one of many lines gave no sound."""
