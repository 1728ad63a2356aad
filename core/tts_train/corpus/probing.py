"""Read a whole corpus, row by row and file by file, and say what is in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice, pairwise, repeat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tts_train.corpus.audio.containers import Limits
from tts_train.corpus.audio.read import Audio, RowReader, read_row
from tts_train.corpus.ledger import Ledger
from tts_train.corpus.read import Corpus, kept_utterances, open_corpus
from tts_train.corpus.rows.utterance import Rejected, RowRejected, TokenRow, Utterance
from tts_train.disk.files import disk_errors
from tts_train.parallel.chunks import run_chunks

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (rows done, rows in all; 0 if nobody knows)."""

_CHUNK = 32
_EDGES = (0, 1, 2, 4, 6, 8, 10, 12, 15, 20, 30, 45, 60)
_PERCENTILES = (5, 50, 95)


@dataclass(frozen=True, slots=True)
class RowProbe:
    """What one recording is like, without its samples."""

    seconds: float
    source_rate: int
    peak: float
    rms: float
    floor: float
    warnings: tuple[str, ...]
    more: Mapping[str, Any] = field(default_factory=dict)
    """What a prober of another module found out besides, in plain types."""


Looked: TypeAlias = "RowProbe | Rejected | None"
"""What a recording is like, or why it cannot be used; None for a row whose codes are taken in place of a recording."""
Outcome: TypeAlias = "tuple[Utterance, Looked]"
Prober: TypeAlias = "Callable[[Utterance, RowReader], Looked]"
"""Looks at one recording, in any process: a function of a module, or a ``partial`` of one."""
Verdict: TypeAlias = "Callable[[Sequence[tuple[Utterance, RowProbe]], Sequence[Rejected]], Mapping[str, Rejected]]"
"""Told of all rows that can be used, and of the others; returns by origin which of the former are dropped, and why."""


def probe(row: Utterance, read: RowReader = read_row) -> Looked:
    """Decode one recording and say what it is like, or why it cannot be used."""
    try:
        audio = read_sound(row, read)
    except RowRejected as error:
        return Rejected(row.origin, error.reason, error.detail)
    return None if audio is None else describe(audio)


def read_sound(row: Utterance, read: RowReader) -> Audio | None:
    """Return the sound of a row, None where the reader took its codes.

    Raises:
        RowRejected: if it cannot be used.
    """
    audio = read(row)
    if audio is None and row.codes is None:
        raise TypeError(f"The reader of rows gave no sound for {row.origin}, which has a recording.")
    return audio


def describe(audio: Audio) -> RowProbe:
    """Say what a recording is like."""
    levels = audio.levels
    return RowProbe(audio.seconds, audio.source_rate, levels.peak, levels.rms, levels.floor, audio.warnings)


def survey(
    path: Path | str,
    *,
    layout: str = "auto",
    max_dropped: float | None = None,
    workers: int = 0,
    limits: Limits = Limits(),
    reader: Callable[[Corpus], RowReader | None] | None = None,
    prober: Prober = probe,
    around: int = 0,
    verdict: Verdict | None = None,
    asked: Collection[str] = (),
    dropped_path: Path | None = None,
    progress: Progress | None = None,
    on_report: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Read every row and every recording of a corpus and report in plain types.

    The report is the ledger's, and ``layout``, ``seconds`` (minimum, mean, percentiles, histogram), ``rates`` and
    ``levels`` (peak, speech and noise in dBFS) of the kept rows; for tokenised rows ``tokens`` instead.

    Args:
        path: folder, file or name of a data set on the hub.
        layout: layout to read it in; ``auto`` detects it.
        max_dropped: share of rows that may be dropped; None only reports.
        workers: processes that decode; 0 decodes here.
        limits: lengths and levels that are accepted, where no ``reader`` has its own.
        reader: returns what reads and refuses rows for a backend; None: the rules of every backend.
        prober: looks at each recording.
        around: rows before and behind each one whose texts it is given as ``near``.
        verdict: may drop rows when all were looked at; rows are held in memory until then, without embedded audio.
        asked: reasons by which the user asked to drop rows; ``max_dropped`` does not count them.
        dropped_path: JSONL file that each dropped row is written to, whatever the outcome.
        progress: called as rows are done.
        on_report: called with the report before it is decided whether too many rows were dropped.

    Raises:
        DataError: if the corpus cannot be read, or too many rows were dropped.
    """
    corpus, ledger, totals = open_corpus(path, layout=layout), Ledger(), _Totals()
    read = (reader(corpus) if reader else None) or partial(read_row, root=corpus.root, limits=limits)
    rows = _with_near(_utterances(kept_utterances(corpus, ledger), read, ledger, totals), around)
    waiting: list[tuple[Utterance, RowProbe]] = []
    for row, outcome in _probe_all(rows, partial(_look_at, prober=prober, read=read), workers=workers, ledger=ledger):
        if isinstance(outcome, Rejected):
            ledger.drop(row, outcome.reason, outcome.detail)
        elif outcome is None:
            ledger.keep(row)
        elif verdict is not None:
            waiting.append((_without_sound(row), outcome))
        else:
            totals.keep(ledger, row, outcome)
        if progress:
            progress(ledger.rows - ledger.unsettled + len(waiting), corpus.total or 0)
    refused = verdict(waiting, ledger.dropped) if verdict is not None else {}
    for row, outcome in waiting:
        if row.origin in refused:
            ledger.drop(row, refused[row.origin].reason, refused[row.origin].detail)
        else:
            totals.keep(ledger, row, outcome)
    if progress:
        progress(ledger.rows, ledger.rows)
    if dropped_path:
        with disk_errors(dropped_path, option="--dropped"):
            ledger.write_dropped(dropped_path)
    report = {"layout": corpus.layout, **ledger.report(), **totals.report()}
    if on_report:
        on_report(report)
    if max_dropped is not None:
        ledger.enforce(max_dropped, asked=asked)
    return report


@dataclass
class _Totals:
    probes: list[RowProbe] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def keep(self, ledger: Ledger, row: Utterance, found: RowProbe) -> None:
        ledger.keep(row, seconds=found.seconds, warnings=found.warnings)
        self.probes.append(found)

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = {"tokens": _spread(self.tokens)} if self.tokens else {}
        if self.probes:
            seconds = [probe.seconds for probe in self.probes]
            rates, counts = np.unique([probe.source_rate for probe in self.probes], return_counts=True)
            report["seconds"] = {**_spread(seconds), "histogram": _histogram(seconds)}
            report["rates"] = {str(rate): int(count) for rate, count in zip(rates, counts, strict=True)}
            report["levels"] = {
                name: _decibels([getattr(p, name) for p in self.probes]) for name in ("peak", "rms", "floor")
            }
        return report


def _utterances(
    rows: Iterator[Utterance | TokenRow], read: RowReader, ledger: Ledger, totals: _Totals
) -> Iterator[Utterance]:
    for row in rows:
        if not isinstance(row, TokenRow):
            yield row
            continue
        try:
            read(row)
        except RowRejected as error:
            ledger.drop(row, error.reason, error.detail)
        else:
            ledger.keep(row)
            totals.tokens.append(len(row.input_ids))


def _with_near(rows: Iterator[Utterance], around: int) -> Iterator[Utterance]:
    """Give every row the texts around it; only as many rows are held as that takes."""
    if not around:
        yield from rows
        return
    window: deque[Utterance] = deque()
    place = 0
    # Nothing comes behind the last rows, which still have to pass through the window.
    for row in chain(rows, repeat(None, around)):
        if row is not None:
            window.append(row)
        elif place >= len(window):
            return
        if row is None or len(window) - place > around:
            texts = [each.text for each in window]
            yield replace(window[place], near=(*texts[:place], *texts[place + 1 : place + 1 + around]))
            place += 1
        if place > around:
            window.popleft()
            place -= 1


def _without_sound(row: Utterance) -> Utterance:
    """Let go of recordings that lie in the row itself: all rows are held until the last one."""
    if isinstance(row.audio, bytes):
        row = replace(row, audio=b"")
    return replace(row, reference=None) if isinstance(row.reference, bytes) else row


def _look_at(row: Utterance, *, prober: Prober, read: RowReader) -> Looked:
    return prober(row, read)


_Look: TypeAlias = "Callable[[Utterance], Looked]"


def _probe_all(rows: Iterator[Utterance], look: _Look, *, workers: int, ledger: Ledger) -> Iterator[Outcome]:
    if workers == 0:
        for row in rows:
            yield row, look(row)
        return
    sent: deque[list[Utterance]] = deque()
    # By identity: rows stay in their chunk until they are settled, so no number is used twice.
    lost: set[int] = set()

    def chunks() -> Iterator[list[Utterance]]:
        while chunk := list(islice(rows, _CHUNK)):
            sent.append(chunk)
            yield chunk

    def drop(row: Utterance) -> None:
        lost.add(id(row))
        ledger.drop_deadly(row)

    work = partial(_probe_chunk, look=look)
    # Rows stay here: embedded audio need not come back.
    for outcomes in run_chunks(work, chunks(), workers=workers, lost=drop, again=""):
        chunk = sent.popleft()
        yield from zip([row for row in chunk if id(row) not in lost], outcomes, strict=True)


def _probe_chunk(rows: list[Utterance], *, look: _Look) -> list[Looked]:
    return [look(row) for row in rows]


def _spread(values: list[float] | list[int]) -> dict[str, float]:
    low, median, high = np.percentile(values, _PERCENTILES)
    named = {"min": min(values), "p5": low, "median": median, "mean": np.mean(values), "p95": high, "max": max(values)}
    return {name: round(float(value), 3) for name, value in named.items()}


def _histogram(seconds: list[float]) -> dict[str, int]:
    edges = [*_EDGES, np.inf]
    counts, _ = np.histogram(seconds, edges)
    names = [f"{low}-{high}" for low, high in pairwise(_EDGES)] + [f"{_EDGES[-1]}-"]
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _decibels(values: list[float]) -> dict[str, float]:
    # Digital silence counts as -120 dB, since its logarithm is not finite.
    decibels = 20 * np.log10(np.maximum(values, 1e-6))
    return {
        f"p{rank}": round(float(value), 1)
        for rank, value in zip(_PERCENTILES, np.percentile(decibels, _PERCENTILES), strict=True)
    }
