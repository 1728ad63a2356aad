"""Sentences that a demo's run has learned: spoken, scored beside recording and codec, and put on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tts_train.demo.commands import Started, start
from tts_train.report.page import keep_spoken
from tts_train.report.source import CEILING, REFERENCE
from tts_train.scoring.metrics.opinion import Dnsmos
from tts_train.scoring.metrics.wave import Duration
from tts_train.scoring.metrics.words import WordsFound

SENTENCES, SHOWN = 8, 3
METRICS = (WordsFound, Dnsmos, Duration)
LEAST_WORDS, MOST_LOST = 0.8, 0.5
"""What a voice that has learned its sentences keeps: of the words that the codec leaves, and of its DNSMOS."""


def speak_learned(which: Sequence[str], source: Path, voice: Path, out: Path, words: Sequence[str]) -> Started:
    """Begin to speak sentences that ``source`` was trained on, and to score what can be scored here.

    Args:
        which: words that name backend and stage.
        source: a run directory.
        voice: the corpus it was prepared from.
        out: folder for sounds and scores.
        words: further words for ``tts-train eval``.
    """
    # As far as it is installed: a demo runs on a bare machine.
    metrics = [metric.name for metric in METRICS if metric().missing() is None]
    what = ["--data", str(voice), "--out", str(out), "--split", "learned", "--sentences", str(SENTENCES)]
    # The sample voice is English, and its rows have no column that says so.
    how = ["--language", "en", "--metrics", ",".join(metrics), *words, "--json"]
    return start(["eval", str(source), *which, *what, *how])


def show_learned(told: Mapping[str, Any], source: Path, out: Path) -> dict[str, Any]:
    """Put some of the sentences on the run's page, beside the recording and what the codec leaves of it.

    Returns:
        ``learned``: the scores by ``recording``, ``codec`` and ``run``, and where the sounds are; ``speaks``: whether
        it kept enough of what the codec leaves, by what can be measured here; None where nothing can.
    """
    for row in [row for row in _rows(out) if row["source"] == source.name][:SHOWN]:
        sound = f"{row['sentence']}.wav"
        keep_spoken(
            source,
            out / "audio" / source.name / sound,
            name=f"learned-{row['sentence']}",
            text=row["text"],
            beside={REFERENCE: out / "audio" / "recording" / sound, CEILING: out / "audio" / "codec" / sound},
            facts={name: round(row[name], 2) for name in told["figures"] if row.get(name) is not None},
        )
    scores = {
        label: {name: round(figure["mean"], 2) for name, figure in told["scores"][label]["all"].items()}
        for label in ("recording", "codec", source.name)
    }
    return {
        "learned": {"sentences": told["sentences"], "scores": scores, "sounds": str(out / "audio" / source.name)},
        "speaks": _speaks(scores[source.name], scores["codec"]),
    }


def _speaks(run_scores: dict[str, float], ceiling: dict[str, float]) -> bool | None:
    least = {"words_found": LEAST_WORDS * ceiling.get("words_found", 0), "dnsmos": ceiling.get("dnsmos", 0) - MOST_LOST}
    measured = [run_scores[name] >= least[name] for name in least if name in run_scores]
    return all(measured) if measured else None


def _rows(out: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    rows: list[dict[str, Any]] = parquet.read_table(out / "rows.parquet").to_pylist()
    return rows
