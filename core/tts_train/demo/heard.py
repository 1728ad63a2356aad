"""Sentences that a demo's run has learned: spoken, scored beside recording and codec, and put on its page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tts_train.demo.commands import run
from tts_train.report.source import CEILING, REFERENCE
from tts_train.report.spoken import keep_spoken

SENTENCES, SHOWN = 8, 3
MEASURED_WITH = {"alignment": "pocketsphinx", "dnsmos": "speechmos"}
"""The package that each metric needs."""
LEAST_WORDS, MOST_LOST = 0.8, 0.5
"""What a voice that has learned its sentences keeps: of the words that the codec leaves, and of its DNSMOS."""


def hear_learned(which: Sequence[str], source: Path, voice: Path, out: Path, words: Sequence[str]) -> dict[str, Any]:
    """Speak sentences that ``source`` was trained on, score what can be scored here, and show some on its page.

    Args:
        which: words that name backend and stage.
        source: a run directory.
        voice: the corpus it was prepared from.
        out: folder for sounds and scores.
        words: further words for ``tts-train eval``.

    Returns:
        ``learned``: the scores by ``recording``, ``codec`` and ``run``, and where the sounds are; ``speaks``: whether
        it kept enough of what the codec leaves, by what can be measured here; None where nothing can.
    """
    metrics = [metric for metric, package in MEASURED_WITH.items() if find_spec(package)]
    what = ["--data", str(voice), "--out", str(out), "--split", "learned", "--sentences", str(SENTENCES)]
    how = ["--language", "en", "--metrics", ",".join([*metrics, "duration"]), *words, "--json"]
    told = run(["eval", str(source), *which, *what, *how])
    rows = _rows(out)
    for row in [row for row in rows if row["source"] == source.name][:SHOWN]:
        sounds = {
            label: out / "audio" / label / f"{row['sentence']}.wav" for label in (source.name, "recording", "codec")
        }
        keep_spoken(
            source,
            sounds[source.name],
            name=f"learned-{row['sentence']}",
            text=row["text"],
            beside={REFERENCE: sounds["recording"], CEILING: sounds["codec"]},
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
