"""Charts as HTML with inline SVG: lines over steps and bars, without scripts.

The SVG stretches with the page while lines keep their width; labels are HTML beside it, so they stay readable on a
phone. Colours come from the classes ``s0`` to ``s7`` of the style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

Point = tuple[float, float]

# As many as style.css has.
COLOURS = 8
# More than a line has pixels on most screens, and every point makes the page larger.
MAX_POINTS = 400
MAX_HOVERS = 120
SMOOTH_FROM = 60
"""A line with more points than this is drawn faintly, under its moving average."""


@dataclass(frozen=True)
class ChartLine:
    """One line of a chart; points with a value that is not finite are left out and counted in the legend."""

    label: str
    points: Sequence[Point]
    colour: int = 0
    smooth: bool = True
    """Whether a long line is drawn faintly under its moving average."""


def line_chart(title: str, lines: Sequence[ChartLine], *, last_step: float, unit: str = "", zero: bool = False) -> str:
    """Return a figure with axes, ticks, legend and hover titles.

    x runs from 0 to ``last_step``. With ``zero`` the y axis starts at zero however narrow the values are. A line
    whose label is the title, the only one of its chart, is named once.
    """
    clean = [replace(line, points=_thin([p for p in line.points if math.isfinite(p[1])])) for line in lines]
    # Of the thinned lines: a single outlier among thousands does not squeeze the rest.
    values = [y for line in clean for _, y in line.points]
    legend = "".join(_legend(title, given, line, unit) for given, line in zip(lines, clean, strict=True))
    low = 0.0 if zero else _floor(values)
    plot = (
        # At least 1: places along the axis are divided by it, and a run may have logged at step 0 alone.
        _plot(title, clean, (low, max(values)), max(last_step, 1.0), unit)
        if values
        else '<p class="none">No finite value.</p>'
    )
    caption = f"<figcaption><span>{escape(title)}</span><ul>{legend}</ul></figcaption>"
    return f'<figure class="chart">{caption}{plot}</figure>'


def _plot(title: str, lines: Sequence[ChartLine], span: Point, width: float, unit: str) -> str:
    ticks = nice_ticks(*span)
    low, high = ticks[0], ticks[-1]

    def down(value: float) -> float:
        return (high - value) / (high - low)

    def place(point: Point) -> str:
        return f"{1000 * point[0] / width:.1f} {1000 * down(point[1]):.1f}"

    drawn = "".join(_draw(line, place) for line in lines if line.points)
    grid = "".join(f'<path class="grid" d="M0 {1000 * down(tick):.1f}h1000"/>' for tick in ticks)
    ys = "".join(_label("top", down(tick), number(tick)) for tick in ticks)
    xs = "".join(_label("left", tick / width, number(tick)) for tick in nice_ticks(0, width) if tick <= width)
    return (
        f'<div class="plot"><div class="ys" aria-hidden="true">{ys}</div>'
        # Stretched without its aspect ratio; strokes keep their width by the style sheet.
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(_describe(title, lines))}">{grid}{drawn}{_hovers(lines, width, unit)}</svg>'
        f'<div class="xs" aria-hidden="true">{xs}</div></div>'
    )


def bars(title: str, counts: Mapping[str, float], *, ends: tuple[str, str]) -> str:
    """Return a histogram: upright bars with label and count on hover, and the two ends of the axis."""
    top = max([*counts.values(), 1e-9])
    columns = "".join(
        f'<div class="column" title="{escape(f"{label}: {number(count)}")}">'
        # Not below 0.6 %: a bar of a single row among thousands would not be seen.
        f'<i style="height:{max(100 * count / top, 0.6 if count else 0):.1f}%"></i></div>'
        for label, count in counts.items()
    )
    labels = "".join(f"<span>{escape(end)}</span>" for end in ends)
    told = escape(f"{title}: " + ", ".join(f"{label}: {number(count)}" for label, count in counts.items()))
    return (
        f'<figure class="chart"><figcaption><span>{escape(title)}</span></figcaption>'
        f'<div class="bars" role="img" aria-label="{told}">{columns}</div>'
        f'<div class="bar-labels" aria-hidden="true">{labels}</div></figure>'
    )


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about ``count`` + 1 round values that enclose ``low`` to ``high``."""
    if not high > low:
        # A line of one value has no height to divide by: a tenth of the value is shown above it.
        high = low + max(abs(low) * 0.1, 1e-9)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    # 0.999: a step that is round already must not be missed for a rounding error.
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Multiplied, not added up: 0.1 + 0.1 + 0.1 is not 0.3.
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def number(value: float) -> str:
    """Write a number for people: at most four significant digits, thousands with a thin space."""
    if not math.isfinite(value):
        return "not finite"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e9):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.4g}"


def _floor(values: Sequence[float]) -> float:
    """Start at zero unless that would squeeze the line into the upper half."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return 0.0 if 0 <= low < 0.5 * high else low


def _thin(points: Sequence[Point]) -> list[Point]:
    """Average neighbours until at most ``MAX_POINTS`` are left; the last point stays as it is."""
    size = -(-len(points) // MAX_POINTS)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points) - 1, size)]
    # The last one is told in the legend, and must be the run's own figure.
    return [*((g[-1][0], math.fsum(y for _, y in g) / len(g)) for g in groups), points[-1]]


def _smooth(points: Sequence[Point]) -> list[Point]:
    """Centred moving average over a twentieth of the line; at its start narrower, so that a steep fall is kept."""
    # To both sides, so a twentieth in all.
    reach = max(1, len(points) // 40)
    smooth = []
    for index, (x, _) in enumerate(points):
        window = points[index - min(reach, index) : index + min(reach, index) + 1]
        smooth.append((x, math.fsum(y for _, y in window) / len(window)))
    return smooth


def _draw(line: ChartLine, place: Callable[[Point], str]) -> str:
    colour = f"s{line.colour % COLOURS}"
    if len(line.points) == 1:
        # A line of no length with round ends: a circle would be stretched to an ellipse with the drawing.
        return f'<path class="dot {colour}" d="M{place(line.points[0])}h0"/>'
    path = "L".join(place(point) for point in line.points)
    if len(line.points) <= SMOOTH_FROM or not line.smooth:
        dots = "".join(f"M{place(point)}h0" for point in line.points) if len(line.points) <= 25 else ""
        return f'<path class="line {colour}" d="M{path}"/><path class="dot {colour}" d="{dots}"/>'
    bold = "L".join(place(point) for point in _smooth(line.points))
    return f'<path class="line faint {colour}" d="M{path}"/><path class="line {colour}" d="M{bold}"/>'


def _hovers(lines: Sequence[ChartLine], width: float, unit: str) -> str:
    """Bands over the whole height whose title tells every line's value there."""
    by_step: dict[float, list[str]] = {}
    for line in lines:
        for x, y in line.points:
            by_step.setdefault(x, []).append(f"{line.label} {number(y)}{unit}")
    steps = sorted(by_step)
    # A title for each of thousands of points would be most of the page.
    steps = steps[:: -(-len(steps) // MAX_HOVERS)]
    marks = []
    for index, step in enumerate(steps):
        left = (steps[index - 1] + step) / 2 if index else 0.0
        right = (steps[index + 1] + step) / 2 if index + 1 < len(steps) else width
        text = escape(f"step {number(step)}: " + ", ".join(by_step[step]))
        band = f'x="{1000 * left / width:.1f}" width="{1000 * max(right - left, 0) / width:.1f}"'
        guide = f'<path d="M{1000 * step / width:.1f} 0v1000"/>'
        marks.append(f'<g class="hover"><title>{text}</title>{guide}<rect {band} y="0" height="1000"/></g>')
    return "".join(marks)


def _legend(title: str, given: ChartLine, line: ChartLine, unit: str) -> str:
    lost = sum(not math.isfinite(y) for _, y in given.points)
    last = f"<b>{number(line.points[-1][1])}{escape(unit)}</b>" if line.points else ""
    warning = f' <em class="bad">{lost} not finite</em>' if lost else ""
    name = "" if line.label == title else escape(line.label)
    return f'<li class="s{line.colour % COLOURS}">{name} {last}{warning}</li>'


def _label(side: str, share: float, text: str) -> str:
    return f'<span style="{side}:{100 * share:.2f}%">{escape(text)}</span>'


def _describe(title: str, lines: Sequence[ChartLine]) -> str:
    """One sentence a line, for readers who do not see the picture."""
    told = [
        f"{line.label} from {number(line.points[0][1])} at step {number(line.points[0][0])} "
        f"to {number(line.points[-1][1])} at step {number(line.points[-1][0])}"
        for line in lines
        if line.points
    ]
    return f"{title}: " + "; ".join(told)
