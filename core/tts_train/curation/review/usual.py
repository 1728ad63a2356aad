"""What is usual in a corpus: how fast is spoken, which language, which words a recogniser writes again and again."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from tts_train.corpus.language import languages_of
from tts_train.curation.review.wording import count_letters, plain_phrase, script_of
from tts_train.curation.row import ClipRow

FEWEST = 20
"""Rows from which on a spread is worth comparing with."""
MARGIN_LETTERS = 5.0
"""Letters that are counted besides: about a third of a second of margins around the words, at 15 letters a second, so
that a single word in a short clip is no outlier."""
LEAST_SPREAD = 0.12
"""In log units, so 12 %: within that, speech that is very even (read by one person, or synthetic) has no outliers."""
NO_CLUSTER = 0
"""Cluster of a clip that is like no other, as ``corpus speakers`` writes it."""
# Of a normal distribution, the median of absolute deviations is 0.6745 standard deviations.
_TO_DEVIATIONS = 1 / 0.6745


@dataclass(frozen=True)
class Spread:
    """Where most of some values lie."""

    median: float
    deviation: float
    """Robust: from the median of absolute deviations."""

    @classmethod
    def of(cls, values: Sequence[float], *, least: float) -> Spread | None:
        """Return the spread of some values; None for fewer than :data:`FEWEST`."""
        if len(values) < FEWEST:
            return None
        # Not mean and deviation, which the outliers that are looked for would pull towards themselves.
        median = statistics.median(values)
        off = statistics.median(abs(value - median) for value in values)
        return cls(median, max(off * _TO_DEVIATIONS, least))

    def score(self, value: float) -> float:
        """Return how many deviations a value lies from the median."""
        return (value - self.median) / self.deviation


@dataclass(frozen=True)
class Usual:
    """What rows of one corpus are compared with."""

    language: str | None = None
    """Of most rows: as they say, else as their texts are detected."""
    one_language: bool = False
    """Whether so many rows have it that another is suspicious."""
    rates: dict[str, Spread] = field(default_factory=dict)
    """Log letters a second, by language, or by script where rows name none."""
    phrases: Counter[str] = field(default_factory=Counter)
    """How many clips a recogniser wrote the same text of."""
    likeness: Spread | None = None
    """How much clips sound like their speaker, where ``corpus speakers`` measured it."""
    clusters: dict[str | None, int] = field(default_factory=dict)
    """Which voice most clips of a speaker belong to."""

    @classmethod
    def of(cls, rows: Sequence[ClipRow]) -> Usual:
        """Return what is usual in some rows."""
        language, one = _main_language(rows)
        rates: defaultdict[str, list[float]] = defaultdict(list)
        for row in rows:
            if (rate := log_rate(row)) is not None:
                rates[rate_group(row)].append(rate)
        spreads = {group: Spread.of(found, least=LEAST_SPREAD) for group, found in rates.items()}
        heard = (plain_phrase(row.text) for row in rows if (row.text_by or "").startswith("recogniser"))
        likeness = [
            float(row.facts["speaker_likeness"]) for row in rows if is_number(row.facts.get("speaker_likeness"))
        ]
        return cls(
            language=language,
            one_language=one,
            rates={group: spread for group, spread in spreads.items() if spread},
            phrases=Counter(phrase for phrase in heard if phrase),
            # A twentieth of cosine similarity: less than that two recordings of one person differ anyhow.
            likeness=Spread.of(likeness, least=0.05),
            clusters=_main_clusters(rows),
        )


def log_rate(row: ClipRow) -> float | None:
    """Return the logarithm of letters a second; None where there is no text or no time."""
    letters = count_letters(row.text)
    # Logarithms: twice as fast is as far from the usual as half as fast.
    return math.log((letters + MARGIN_LETTERS) / row.seconds) if letters and row.seconds > 0 else None


def rate_group(row: ClipRow) -> str:
    """Return which rows a row's rate is compared with: letters stand for more in some scripts than in others."""
    return f"{(row.language or '').split('-')[0]} {script_of(row.text)}".strip()


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a fact is a number that can be compared."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _main_language(rows: Sequence[ClipRow]) -> tuple[str | None, bool]:
    named = Counter(row.language for row in rows if row.language)
    if named:
        language, count = named.most_common(1)[0]
        # Four in five: a corpus of two languages on purpose has no main one to differ from.
        return language, count * 5 >= named.total() * 4
    # Nobody said: what most texts are in.
    detected = languages_of(row.text for row in rows)
    return (detected[0], len(detected) == 1) if detected else (None, False)


def _main_clusters(rows: Iterable[ClipRow]) -> dict[str | None, int]:
    found: defaultdict[str | None, Counter[int]] = defaultdict(Counter)
    for row in rows:
        if is_number(cluster := row.facts.get("speaker_cluster")) and cluster != NO_CLUSTER:
            found[row.speaker][int(cluster)] += 1
    return {speaker: counts.most_common(1)[0][0] for speaker, counts in found.items()}
