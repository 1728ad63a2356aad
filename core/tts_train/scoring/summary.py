"""From rows of figures to means with intervals, by source and language, and differences between sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tts_train.contract.metric import Figure
from tts_train.scoring.interval import ConfidenceInterval, estimate
from tts_train.scoring.scoring import Row

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
