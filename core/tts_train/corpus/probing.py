"""Read a whole corpus, row by row and file by file, and say what is in it."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tts_train.corpus.audio import read_utterance
from tts_train.corpus.containers import AudioRejected, Limits
from tts_train.corpus.ledger import Ledger
from tts_train.corpus.read import kept_utterances, open_corpus
from tts_train.corpus.utterance import Rejected, TokenRow, Utterance

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (rows done, rows in all; 0 if nobody knows)."""

_CHUNK = 32
_EDGES = (0, 1, 2, 4, 6, 8, 10, 12, 15, 20, 30, 45, 60)
_PERCENTILES = (5, 50, 95)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one recording is like, without its samples."""

    seconds: float
    source_rate: int
    peak: float
    rms: float
    floor: float
    warnings: tuple[str, ...]


Outcome: TypeAlias = "tuple[Utterance, Probe | Rejected]"


def survey(
    path: Path | str,
    *,
    layout: str = "auto",
    max_dropped: float | None = None,
    workers: int = 0,
    limits: Limits = Limits(),
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
        limits: lengths and levels that are accepted.
        dropped_path: JSONL file that each dropped row is written to, whatever the outcome.
        progress: called as rows are done.
        on_report: called with the report before it is decided whether too many rows were dropped.

    Raises:
        DataError: if the corpus cannot be read, or too many rows were dropped.
    """
    corpus, ledger, totals = open_corpus(path, layout=layout), Ledger(), _Totals()
    rows = _utterances(kept_utterances(corpus, ledger), ledger, totals)
    for row, outcome in _probe_all(rows, root=corpus.root, limits=limits, workers=workers):
        if isinstance(outcome, Rejected):
            ledger.drop(row, outcome.reason, outcome.detail)
        else:
            ledger.keep(row, seconds=outcome.seconds, warnings=outcome.warnings)
            totals.probes.append(outcome)
        if progress:
            progress(ledger.rows - ledger.unsettled, corpus.total or 0)
    if progress:
        progress(ledger.rows, ledger.rows)
    if dropped_path:
        ledger.write_dropped(dropped_path)
    report = {"layout": corpus.layout, **ledger.report(), **totals.report()}
    if on_report:
        on_report(report)
    if max_dropped is not None:
        ledger.enforce(max_dropped)
    return report


def probe(row: Utterance, *, root: Path | None = None, limits: Limits = Limits()) -> Probe | Rejected:
    """Decode one recording and say what it is like, or why it cannot be used."""
    try:
        audio = read_utterance(row, root=root, limits=limits)
    except AudioRejected as error:
        return Rejected(row.origin, error.reason, error.detail)
    levels = audio.levels
    return Probe(audio.seconds, audio.source_rate, levels.peak, levels.rms, levels.floor, audio.warnings)


@dataclass
class _Totals:
    probes: list[Probe] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

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


def _utterances(rows: Iterator[Utterance | TokenRow], ledger: Ledger, totals: _Totals) -> Iterator[Utterance]:
    for row in rows:
        if isinstance(row, TokenRow):
            ledger.keep(row)
            totals.tokens.append(len(row.input_ids))
        else:
            yield row


def _probe_all(rows: Iterator[Utterance], *, root: Path | None, limits: Limits, workers: int) -> Iterator[Outcome]:
    if workers <= 0:
        for row in rows:
            yield row, probe(row, root=root, limits=limits)
        return
    pending: deque[tuple[list[Utterance], Future[list[Probe | Rejected]]]] = deque()
    pool = _Pool(workers)
    try:
        while chunk := list(islice(rows, _CHUNK)):
            pending.append((chunk, pool.submit(chunk, root, limits)))
            # A bounded queue: embedded audio would otherwise fill the memory.
            if len(pending) > 2 * workers:
                yield from _finish(pending, pool, root, limits)
        while pending:
            yield from _finish(pending, pool, root, limits)
    finally:
        pool.close()


class _Pool:
    """Worker processes, started again after a file has killed one."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor = self._start()

    def submit(self, chunk: list[Utterance], root: Path | None, limits: Limits) -> Future[list[Probe | Rejected]]:
        try:
            return self._executor.submit(_probe_chunk, chunk, root, limits)
        except BrokenProcessPool:
            self.close()
            self._executor = self._start()
            return self._executor.submit(_probe_chunk, chunk, root, limits)

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _start(self) -> ProcessPoolExecutor:
        # Forking a process that has threads (torch, progress bars) can hang the child.
        return ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))


def _finish(
    pending: deque[tuple[list[Utterance], Future[list[Probe | Rejected]]]],
    pool: _Pool,
    root: Path | None,
    limits: Limits,
) -> Iterator[Outcome]:
    chunk, future = pending.popleft()
    try:
        yield from zip(chunk, future.result(), strict=True)
    except BrokenProcessPool:
        # One of the running chunks holds a file that kills its reader: go through this one file by file.
        for row in chunk:
            yield row, _probe_alone(row, pool, root, limits)


def _probe_alone(row: Utterance, pool: _Pool, root: Path | None, limits: Limits) -> Probe | Rejected:
    try:
        return pool.submit([row], root, limits).result()[0]
    except BrokenProcessPool:
        return Rejected(row.origin, "decode_crash", "the process that read it died")


def _probe_chunk(rows: list[Utterance], root: Path | None, limits: Limits) -> list[Probe | Rejected]:
    return [probe(row, root=root, limits=limits) for row in rows]


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
    decibels = 20 * np.log10(np.maximum(values, 1e-6))
    return {
        f"p{rank}": round(float(value), 1)
        for rank, value in zip(_PERCENTILES, np.percentile(decibels, _PERCENTILES), strict=True)
    }
