"""Look for what is wrong with a corpus: read as ``check`` reads it, measured clip by clip, judged over all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tts_train.contract.metric import Recogniser
from tts_train.corpus.audio.read import RowReader, read_row
from tts_train.corpus.probing import Progress, RowProbe, survey
from tts_train.corpus.read import Corpus
from tts_train.corpus.reasons import declare_reasons
from tts_train.corpus.rows.utterance import Rejected, Utterance
from tts_train.disk.files import disk_errors, write_atomically
from tts_train.errors import DataError
from tts_train.findings.catalogue import Catalogue
from tts_train.findings.examine import FIGURES, examine
from tts_train.findings.keeping import WHY, KeptFigures
from tts_train.findings.measure import Finding, FindingKind, Measured, Told, beyond
from tts_train.findings.text.recognised import RecognisedText
from tts_train.findings.thresholds import read_drop, read_thresholds

FINDINGS_FILE = "findings.jsonl"


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to look for, in what, and where figures are kept."""

    path: Path | str
    keep: Path
    """Folder for what was measured; the same clips are not measured again."""
    drop: str | None = None
    """Findings whose rows are dropped, as in ``noisy,clipping``."""
    thresholds: str | None = None
    """As in ``noisy=12,level=6``."""
    layout: str = "auto"
    max_dropped: float | None = None
    workers: int = 0
    reader: Callable[[Corpus], RowReader | None] | None = None
    """See :func:`tts_train.corpus.probing.survey`."""
    dropped_path: Path | None = None
    recogniser: Recogniser | None = None
    """Hears every clip, where one was named."""


@dataclass(kw_only=True)
class SearchResult:
    """What a search found."""

    kinds: Mapping[str, FindingKind]
    thresholds: Mapping[str, float]
    drop: tuple[str, ...] = ()
    not_measured: Mapping[str, str] = field(default_factory=dict)
    """Why, by name of the kind."""
    rows: list[Measured] = field(default_factory=list)
    """All rows that could be read."""
    audio: dict[str, Path | None] = field(default_factory=dict)
    """By origin: the file; None where it lies inside of a table."""
    stretches: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """By origin: where the row begins and ends in its file, in seconds."""
    findings: list[Finding] = field(default_factory=list)
    figures: dict[str, Mapping[str, Told]] = field(default_factory=dict)
    """Of all rows, by name of the kind and by origin."""
    lengths: dict[str, float] = field(default_factory=dict)
    """Seconds by origin."""
    report: dict[str, Any] = field(default_factory=dict)
    """What ``check`` reports."""
    taken: Mapping[str, Rejected] = field(default_factory=dict)
    """Rows that were dropped because ``--drop`` asked for it, by origin."""
    refused: DataError | None = None
    """Why the command ends with an error after all: more rows were dropped than allowed."""

    def by_kind(self) -> dict[str, list[Finding]]:
        """Return the findings of every kind that was looked for, the worst first."""
        grouped: dict[str, list[Finding]] = {name: [] for name in self.kinds if name not in self.not_measured}
        for finding in self.findings:
            grouped[finding.kind].append(finding)
        for name, found in grouped.items():
            sign = 1 if self.kinds[name].below else -1
            found.sort(key=lambda each: (sign * each.figure, each.origin))
        return grouped

    def by_row(self) -> dict[str, list[str]]:
        """Return the names of what was found in each row that could be read, by origin; an empty list for most."""
        named: dict[str, dict[str, None]] = {row.origin: {} for row in self.rows}
        for finding in self.findings:
            if finding.origin in named:
                named[finding.origin][finding.kind] = None
        return {origin: list(names) for origin, names in named.items()}

    def without_sound(self) -> int:
        """Return how many rows that are kept hold token ids in place of a recording."""
        return max(0, int(self.report.get("kept", 0)) + len(self.taken) - len(self.rows))

    def kept(self) -> list[Measured]:
        """Return the rows that are left."""
        return [row for row in self.rows if row.origin not in self.taken]

    def unmeasured_rows(self) -> dict[str, dict[str, int]]:
        """Return how many rows a measure could not be taken of, by its name and by reason."""
        counted: dict[str, Counter[str]] = {}
        for row in self.rows:
            for name, why in row.why.items():
                counted.setdefault(name, Counter())[why] += 1
        return {name: dict(whys.most_common()) for name, whys in counted.items()}


def search(asked: Search, *, progress: Progress | None = None) -> SearchResult:
    """Read and measure every row, and say what is wrong with which; nothing is dropped unless ``asked`` says so.

    Raises:
        ConfigError: if a finding is not known, or a threshold is not a number.
        DataError: if the corpus cannot be read.
    """
    catalogue = Catalogue.load(given=[RecognisedText(asked.recogniser)])
    drop = read_drop(asked.drop, catalogue.kinds)
    found = SearchResult(
        kinds=catalogue.kinds,
        thresholds=read_thresholds(asked.thresholds, catalogue.kinds),
        drop=drop,
        not_measured=catalogue.not_measured(),
    )
    declare_reasons({name: catalogue.kinds[name].advice for name in drop})
    try:
        _survey(asked, found, catalogue, progress)
    except DataError as error:
        if not found.report:
            raise
        found.refused = error
    return found


def _survey(asked: Search, found: SearchResult, catalogue: Catalogue, progress: Progress | None) -> None:
    missing = catalogue.missing()
    measures = [measure for name, measure in catalogue.measures.items() if name not in missing]
    survey(
        asked.path,
        layout=asked.layout,
        max_dropped=asked.max_dropped,
        workers=asked.workers,
        reader=partial(_reader, asked.reader),
        prober=partial(examine, measures=measures, kept=KeptFigures(asked.keep)),
        around=max((measure.around for measure in measures), default=0),
        verdict=partial(_judge, found, catalogue),
        asked=found.drop,
        dropped_path=asked.dropped_path,
        progress=progress,
        on_report=lambda report: found.report.update(report),
    )


def _reader(other: Callable[[Corpus], RowReader | None] | None, corpus: Corpus) -> RowReader:
    return (other(corpus) if other else None) or partial(read_row, root=corpus.root, keep_raw=True)


def _judge(
    found: SearchResult,
    catalogue: Catalogue,
    rows: Sequence[tuple[Utterance, RowProbe]],
    dropped: Sequence[Rejected],
) -> Mapping[str, Rejected]:
    """Judge all rows, and return those that ``--drop`` takes."""
    found.rows = [_measured(row, probed) for row, probed in rows]
    found.audio = {row.origin: row.audio if isinstance(row.audio, Path) else None for row, _ in rows}
    found.stretches = {row.origin: (row.start, row.end) for row, _ in rows}
    found.lengths = {row.origin: row.seconds for row in found.rows}
    for judge in catalogue.working():
        # Once, and not by Judge.judge: the figures are drawn, too, and those of copies take a while.
        figures = judge.figures(found.rows)
        found.figures |= figures
        found.findings += beyond(judge.kinds, figures, found.thresholds)
    found.findings += _told_too(found, dropped)
    taken: dict[str, Rejected] = {}
    for finding in found.findings:
        if finding.kind in found.drop and finding.origin in found.lengths:
            kind = found.kinds[finding.kind]
            detail = f"{finding.figure:.{kind.digits}f} {kind.unit}".strip()
            taken.setdefault(finding.origin, Rejected(finding.origin, finding.kind, detail))
    found.taken = taken
    return taken


def _told_too(found: SearchResult, dropped: Iterable[Rejected]) -> Iterable[Finding]:
    """Name rows that are dropped for what a kind looks for: somebody who looks for it misses them otherwise."""
    for row in dropped:
        for kind in found.kinds.values():
            if row.reason in kind.reasons:
                limit = found.thresholds[kind.name]
                yield Finding(
                    kind=kind.name,
                    origin=row.origin,
                    figure=limit,
                    threshold=limit,
                    detail=row.detail or row.reason,
                    dropped=True,
                )


def _measured(row: Utterance, probed: RowProbe) -> Measured:
    taken: Mapping[str, Mapping[str, Any]] = probed.more[FIGURES]
    return Measured(
        origin=row.origin,
        text=row.text,
        speaker=row.speaker,
        language=row.language,
        seconds=probed.seconds,
        figures={name: value for figures in taken.values() for name, value in figures.items() if name != WHY},
        why={name: figures[WHY] for name, figures in taken.items() if WHY in figures},
    )


def write_findings(found: SearchResult, out: Path) -> Path:
    """Write one JSON object a finding, the worst of each kind first, and return the file."""
    file = out / FINDINGS_FILE
    lines = [json.dumps(asdict(each)) for findings in found.by_kind().values() for each in findings]
    with disk_errors(file):
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(file, "".join(f"{line}\n" for line in lines))
    return file
