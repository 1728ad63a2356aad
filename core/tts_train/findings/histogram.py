"""How a figure is spread over the clips, with the threshold in it, as HTML and CSS without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from tts_train.findings.measure import FindingKind
from tts_train.report.chart import nice_ticks, number

COLUMNS = 40
_EDGE = 0.5
"""Per cent of the figures that may lie beyond either end: a single odd one would squeeze all others into a column."""


def histogram(kind: FindingKind, figures: Sequence[float], threshold: float) -> str:
    """Return a figure: columns of clips, those beyond the threshold in another colour, and a line at it."""
    values = np.asarray([value for value in figures if math.isfinite(value)])
    if not len(values):
        return ""
    low, high = _span(values, threshold)
    counts, edges = np.histogram(np.clip(values, low, high), bins=COLUMNS, range=(low, high))
    top = max(int(counts.max()), 1)
    columns = "".join(
        _column(int(count), top, float(start), float(end), kind, threshold)
        for count, start, end in zip(counts, edges, edges[1:], strict=False)
    )
    beyond = int(np.count_nonzero(values <= threshold if kind.below else values >= threshold))
    side = "at or below" if kind.below else "at or above"
    told = f"{beyond} of {len(values)} {side} {number(threshold)} {kind.unit}"
    place = 100 * (threshold - low) / (high - low)
    ticks = "".join(
        f'<span style="left:{100 * (tick - low) / (high - low):.2f}%">{number(tick)}</span>'
        for tick in nice_ticks(low, high)
        if low <= tick <= high
    )
    return (
        f'<figure class="chart"><figcaption><span>{escape(kind.name)}</span>'
        f'<span class="aside">{escape(told)}</span></figcaption>'
        f'<div class="spread" role="img" aria-label="{escape(f"{kind.name}: {told}")}">'
        f'<div class="bars">{columns}</div><i class="limit" style="left:{place:.2f}%"></i>'
        f'<div class="xs" aria-hidden="true">{ticks}</div></div></figure>'
    )


def _span(values: np.ndarray[tuple[int], np.dtype[np.float64]], threshold: float) -> tuple[float, float]:
    low, high = np.percentile(values, (_EDGE, 100 - _EDGE))
    low, high = min(float(low), threshold), max(float(high), threshold)
    # Some room beside the threshold, so that its line does not lie on the edge.
    room = 0.06 * (high - low) or max(abs(high) * 0.1, 1e-3)
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _column(count: int, top: int, start: float, end: float, kind: FindingKind, threshold: float) -> str:
    beyond = end <= threshold if kind.below else start >= threshold
    title = f"{number(start)} to {number(end)} {kind.unit}: {count} clips"
    # Not below 1.5 %: a column of one clip among thousands would not be seen, and it is the one that is looked for.
    height = max(100 * count / top, 1.5 if count else 0)
    return (
        f'<div class="column{" beyond" if beyond else ""}" title="{escape(title)}">'
        f'<i style="height:{height:.1f}%"></i></div>'
    )
