"""Every take measured by every metric; means with intervals by source and language; and a table of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import numpy as np

from tts_train.contract.metric import Better, Figure, Metric, Take
from tts_train.progress import Progress
from tts_train.scoring.speaking import RECORDING, Spoken
from tts_train.sound import read_sound

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class ConfidenceInterval:
    """A mean over utterances."""

    n: int
    """Utterances that have the figure."""
    mean: float
    low: float | None
    """Lower end of the 95 % interval; None for a single utterance, of which nothing can be resampled."""
    high: float | None
    """Upper end."""

    def as_dict(self) -> dict[str, Any]:
        """Return it in plain types."""
        return asdict(self)


def estimate(values: Sequence[float], *, seed: int) -> ConfidenceInterval | None:
    """Return mean and interval of ``values``; None if there are none. The same seed gives the same interval."""
    if not values:
        return None
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) == 1:
        return ConfidenceInterval(1, float(numbers[0]), None, None)
    # The same resamples for every figure, so that tables can be made again.
    chosen = np.random.default_rng(seed).integers(len(numbers), size=(RESAMPLES, len(numbers)))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(numbers[chosen].mean(axis=1), [tail, 100 - tail])
    return ConfidenceInterval(len(numbers), float(numbers.mean()), float(low), float(high))


Row: TypeAlias = "dict[str, Any]"


@dataclass
class Scores:
    """What was measured."""

    rows: list[Row] = field(default_factory=list)
    """One for each take: what it is, and its figures by name; None where a figure does not exist."""
    lacking: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many takes a metric could not measure, by metric and reason."""


def score(spoken: Sequence[Spoken], metrics: Sequence[Metric]) -> Scores:
    """Measure every take. A source that said nothing for a sentence has a row without figures."""
    scores = Scores()
    names = [figure.name for metric in metrics for figure in metric.figures]
    with Progress("Measuring", len(spoken)) as progress:
        for one in spoken:
            row = _about(one) | dict.fromkeys(names)
            if one.path is not None:
                take = _take(one)
                row["seconds"] = round(take.sound.seconds, 3)
                # What a metric lacks leaves None, which tables and means pass over.
                row |= measure(take, metrics, scores.lacking, compared=one.source != RECORDING)
            scores.rows.append(row)
            progress.advance(note=one.source)
    return scores


def _about(one: Spoken) -> Row:
    sentence = one.sentence
    return {
        "source": one.source,
        "sentence": sentence.name,
        "id": sentence.id,
        "language": sentence.language,
        "speaker": sentence.speaker,
        "learned": sentence.learned,
        "text": sentence.text,
        "seconds": None,
        "error": one.error,
    }


def _take(one: Spoken) -> Take:
    assert one.path is not None
    sentence = one.sentence
    # A recording is not compared with itself.
    reference = None if one.source == RECORDING else sentence.recording
    return Take(
        sound=read_sound(one.path),
        text=sentence.text,
        language=sentence.language,
        reference=reference,
        voice=sentence.voice,
    )


def measure(
    take: Take, metrics: Iterable[Metric], lacking: Counter[tuple[str, str]], *, compared: bool = True
) -> Mapping[str, float]:
    """Return the figures of a take by name, without those that it does not have.

    Args:
        take: What was said.
        metrics: What measures it, all of it able to.
        lacking: Counts by metric and reason what could not be measured.
        compared: Whether it is held against a recording; without it metrics that want one are passed over.
    """
    figures: dict[str, float] = {}
    for metric in metrics:
        if "reference" in metric.wants and not compared:
            continue
        if why := metric.lacks(take):
            lacking[metric.name, why] += 1
            continue
        # One figure that is not finite would make every mean over it so.
        figures |= {name: value for name, value in metric.measure(take).items() if math.isfinite(value)}
    return figures


ALL = "all"
"""Every language together."""


def summarise(rows: Sequence[Row], figures: Sequence[Figure], *, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``{source: {language: {figure: {n, mean, low, high}}}}``; figures that no row has are left out."""
    return {
        source: {
            language: _estimates([row for row in rows if row["source"] == source], language, figures, seed)
            for language in _languages(rows)
        }
        for source in sources(rows)
    }


def differences(
    rows: Sequence[Row], figures: Sequence[Figure], first: str, *, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``{source: {figure: {n, mean, low, high}}}``: by how much a source is above ``first``.

    Taken sentence by sentence, over the sentences that both have, so that what makes a sentence hard counts in neither.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for source in sources(rows):
        if source != first:
            pairs = _pairs(rows, first, source)
            values = {figure.name: _gaps(pairs, figure.name) for figure in figures}
            found[source] = _as_dicts({name: estimate(gaps, seed=seed) for name, gaps in values.items()})
    return found


def sources(rows: Sequence[Row]) -> list[str]:
    """Return the sources in the order of their first rows."""
    return list(dict.fromkeys(row["source"] for row in rows))


def _languages(rows: Sequence[Row]) -> list[str]:
    """``all``, and each language where there is more than one."""
    named = sorted({row["language"] or "?" for row in rows})
    return [ALL, *named] if len(named) > 1 else [ALL]


def _estimates(rows: Sequence[Row], language: str, figures: Sequence[Figure], seed: int) -> dict[str, dict[str, Any]]:
    chosen = [row for row in rows if language in (ALL, row["language"] or "?")]
    return _as_dicts(
        {
            figure.name: estimate([row[figure.name] for row in chosen if row[figure.name] is not None], seed=seed)
            for figure in figures
        }
    )


def _pairs(rows: Sequence[Row], first: str, other: str) -> list[tuple[Row, Row]]:
    by_sentence = {row["sentence"]: row for row in rows if row["source"] == first}
    return [
        (by_sentence[row["sentence"]], row) for row in rows if row["source"] == other and row["sentence"] in by_sentence
    ]


def _gaps(pairs: Sequence[tuple[Row, Row]], name: str) -> list[float]:
    return [other[name] - one[name] for one, other in pairs if one[name] is not None and other[name] is not None]


def _as_dicts(estimates: Mapping[str, ConfidenceInterval | None]) -> dict[str, dict[str, Any]]:
    return {name: found.as_dict() for name, found in estimates.items() if found is not None}


_ARROWS: Mapping[Better, str] = {"higher": "↑", "lower": "↓", "one": "→ 1", "neither": ""}


def tables(report: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """Return the page: a table for all languages, one for each if there are several, and what is not measured."""
    scores = report["scores"]
    languages = list(next(iter(scores.values())))
    titled = [
        ("" if language == ALL else f"### {language}\n\n") + _table(scores, language, figures) for language in languages
    ]
    notes = [
        "Mean [95 % interval by bootstrap over utterances] (n). ↑ higher is better, ↓ lower is better.",
        *(f"{source}: nothing was said. {why}" for source, why in report["silent"].items()),
        *(
            f"{source}: {count} sentences gave no sound."
            for source, count in report["failed"].items()
            if source not in report["silent"]
        ),
        *(f"Not measured: {metric} ({why})." for metric, why in report["not_measured"].items()),
    ]
    return "\n\n".join([*titled, "\n".join(f"- {note}" for note in notes)]) + "\n"


def _table(scores: Mapping[str, Any], language: str, figures: Sequence[Figure]) -> str:
    shown = [figure for figure in figures if any(figure.name in of[language] for of in scores.values())]
    lines = [["", *scores]]
    for figure in shown:
        unit = f" ({figure.unit})" if figure.unit else ""
        title = f"{figure.name}{unit} {_ARROWS[figure.better]}".strip()
        lines.append([title, *(_cell(of[language].get(figure.name), figure) for of in scores.values())])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rows = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([rows[0], rule, *rows[1:]])


def _cell(found: Mapping[str, Any] | None, figure: Figure) -> str:
    if found is None:
        return "–"
    number = f"{found['mean']:.{figure.digits}f}"
    if found["low"] is None:
        return f"{number} ({found['n']})"
    return f"{number} [{found['low']:.{figure.digits}f}, {found['high']:.{figure.digits}f}] ({found['n']})"
