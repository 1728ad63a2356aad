"""Measures every take with every metric, and keeps count of what could not be measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tts_train.contract.metric import Metric, Take
from tts_train.progress import Progress
from tts_train.scoring.speaking import RECORDING, Spoken
from tts_train.sound import read_sound

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
                row |= _figures(take, metrics, scores.lacking, compared=one.source != RECORDING)
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


def _figures(
    take: Take, metrics: Iterable[Metric], lacking: Counter[tuple[str, str]], *, compared: bool
) -> Mapping[str, float]:
    figures: dict[str, float] = {}
    for metric in metrics:
        if "reference" in metric.wants and not compared:
            continue
        if why := metric.lacks(take):
            lacking[metric.name, why] += 1
            continue
        figures |= {name: value for name, value in metric.measure(take).items() if math.isfinite(value)}
    return figures
