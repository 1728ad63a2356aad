"""The whole comparison: choose sentences, let every source say them, measure, and write it all down."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tts_train.contract.jobs import SynthJob
from tts_train.contract.metric import Figure, Metric
from tts_train.errors import DiskError
from tts_train.scoring.scores import Row, Scores, differences, score, summarise, tables
from tts_train.scoring.sentences import Sentence
from tts_train.scoring.speaking import say_all

AUDIO, ROWS, SCORES, TABLE = "audio", "rows.parquet", "scores.json", "scores.md"
"""What :func:`evaluate` writes: sounds by source, a row a take, the report, and its tables."""


def evaluate(
    jobs: Mapping[str, SynthJob],
    sentences: Sequence[Sentence],
    metrics: Sequence[Metric],
    *,
    out: Path,
    seed: int,
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """Compare sources on the same sentences and seeds; return what is also written to ``scores.json``.

    Args:
        jobs: how each source speaks, by the name it has in tables; the first is what others are compared with.
        sentences: what is said.
        metrics: what is measured, all of it able to.
        out: folder for sounds, rows, report and tables.
        seed: of the first sentence, and of the intervals.
        missing: metrics that are not measured, and why.

    Raises:
        DataError: if no source says anything.
        DiskError: if something cannot be written.
    """
    said = say_all(jobs, sentences, out=out / AUDIO, seed=seed)
    scores = score(said.takes, metrics)
    figures = [figure for metric in metrics for figure in metric.figures]
    # Differences need a source that has spoken.
    first = next(label for label in jobs if label not in said.silent)
    report = {
        "sentences": len(sentences),
        "held_out": _held_out(sentences),
        "seed": seed,
        "sources": {label: str(job.source) for label, job in jobs.items()},
        "figures": {figure.name: {k: v for k, v in asdict(figure).items() if k != "name"} for figure in figures},
        "scores": summarise(scores.rows, figures, seed=seed),
        "differences": differences(scores.rows, figures, first, seed=seed),
        "silent": dict(said.silent),
        "failed": dict(Counter(row["source"] for row in scores.rows if row["error"])),
        "not_measured": {**missing, **_partly(scores)},
        "out": str(out),
    }
    _write(out, report, scores.rows, figures)
    return report


def _held_out(sentences: Sequence[Sentence]) -> dict[str, int]:
    """How many sentences were new to every source, how many were not, and of how many that is not known."""
    told = {False: "new", True: "learned", None: "unknown"}
    return dict(Counter(told[sentence.learned] for sentence in sentences))


def _partly(scores: Scores) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for (metric, why), count in scores.lacking.items():
        found.setdefault(metric, []).append(f"{count} of {len(scores.rows)} takes: {why}")
    return {metric: "; ".join(reasons) for metric, reasons in found.items()}


def _write(out: Path, report: Mapping[str, Any], rows: Sequence[Row], figures: Sequence[Figure]) -> None:
    texts = ("source", "sentence", "id", "language", "speaker", "text", "error")
    # Named types: a column of which every value is missing would become one of nulls.
    types = {name: pa.string() for name in texts} | {"learned": pa.bool_()}
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in rows[0]])
    try:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), out / ROWS)
        text = json.dumps(report, ensure_ascii=False, indent=2)
        (out / SCORES).write_text(text + "\n", encoding="utf-8")
        (out / TABLE).write_text(tables(report, figures), encoding="utf-8")
    except OSError as error:
        raise DiskError(f"--out {out} cannot be written: {error}.") from error
