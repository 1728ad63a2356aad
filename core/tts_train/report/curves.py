"""Which metrics share a chart: decided by their names alone, so that any backend's metrics find a place."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from tts_train.contract.backend import Curve
from tts_train.report.chart import ChartLine, line_chart
from tts_train.report.history import Entry

SPLITS = {"train": "training", "val": "validation", "test": "test"}
SPEED = {
    "throughput/tokens_per_s": ("Tokens a second", 1.0, ""),
    "throughput/audio_s_per_s": ("Seconds of speech a second", 1.0, ""),
    "throughput/steps_per_s": ("Steps a second", 1.0, ""),
    "throughput/data_wait": ("Time spent waiting for data", 100.0, " %"),
    "listen/share": ("Time spent listening", 100.0, " %"),
    "memory/peak_gib": ("Peak memory", 1.0, " GiB"),
}
"""Title, factor and unit of what tells how a run went, in the order shown."""
HEARD = "listen/"
"""What listening while training logs begins with this."""
FAULTS = ("repetition", "swallowed", "runaway")
_RATE = re.compile(r"^(lr|learning_rate)([-_/]|$)")
# Lightning's names where a module logs a figure both by step and by epoch.
_FORK = re.compile(r"^(.*)_(step|epoch)$")

_NO_TITLES: Mapping[str, Curve] = MappingProxyType({})
Metrics = Mapping[str, Sequence[Entry]]


def is_rate(name: str) -> bool:
    """Say whether a metric is a learning rate: ``lr``, ``lr-AdamW``, ``learning_rate/...``."""
    return _RATE.match(name) is not None


def is_speed(name: str) -> bool:
    """Say whether a metric tells how fast or how large the run is."""
    return name in SPEED


def quality_charts(
    metrics: Metrics, *, languages: Collection[str] = (), titles: Mapping[str, Curve] = _NO_TITLES
) -> list[str]:
    """Charts of everything that is neither speed, nor learning rate, nor heard; losses first.

    ``train/loss`` and ``val/loss`` share a chart. Parts share one for each split: ``train/loss/text`` and
    ``train/loss/audio``, or ``val/accuracy/slot0`` to ``slot6``. Parts that are ``languages`` have their own. What
    ``titles`` holds, by quantity, is named as its backend names it.
    """
    groups: dict[tuple[str, str], dict[str, Sequence[Entry]]] = {}
    for name, entries in metrics.items():
        if not is_rate(name) and not is_speed(name) and not name.startswith(HEARD):
            key, label = _place(name, titles)
            if key[1] and label in languages:
                key = (f"{key[0]} by language", key[1])
            groups.setdefault(key, {})[label] = entries
    # Losses first, wholes before their parts.
    ordered = sorted(groups, key=lambda key: (not key[0].startswith("loss"), bool(key[1]), key))
    units = {key: titles[key[0]].unit if key[0] in titles else "" for key in ordered}
    return [_chart(_title(key, titles), groups[key], metrics, unit=units[key]) for key in ordered]


def heard_charts(metrics: Metrics) -> list[str]:
    """What listening found: the faults in one chart, and one for each score, since their units differ."""
    heard = {name.removeprefix(HEARD): of for name, of in metrics.items() if name.startswith(HEARD) and of}
    faults = {name: heard.pop(name) for name in FAULTS if name in heard}
    # listen/share tells how fast the run is, and is drawn there.
    scores = {name: heard[name] for name in sorted(heard) if HEARD + name not in SPEED}
    charts = [_chart("Samples with a fault", faults, metrics)] if faults else []
    return charts + [_chart(_words(name), {_words(name): entries}, metrics) for name, entries in scores.items()]


def speed_charts(metrics: Metrics) -> list[str]:
    """One chart for each speed metric, since their units differ; all start at zero."""
    charts = []
    for name, (title, factor, unit) in SPEED.items():
        points = [(entry.step, factor * entry.value) for entry in metrics.get(name, ())]
        if points:
            line = ChartLine(title, points)
            charts.append(line_chart(title, [line], last_step=last_step(metrics), unit=unit, zero=True))
    return charts


def rate_charts(metrics: Metrics) -> list[str]:
    """One chart of all learning rates."""
    names = sorted(name for name in metrics if is_rate(name))
    lines = [
        ChartLine(name, [(entry.step, entry.value) for entry in metrics[name]], colour, smooth=False)
        for colour, name in enumerate(names)
    ]
    return [line_chart("Learning rate", lines, last_step=last_step(metrics))] if lines else []


def last_step(metrics: Metrics) -> int:
    """Return the last step that any metric reached; 0 if there is none."""
    return max((entries[-1].step for entries in metrics.values() if entries), default=0)


def _place(name: str, titles: Mapping[str, Curve]) -> tuple[tuple[str, str], str]:
    """Return the chart's key (quantity, split or nothing) and the line's label in it."""
    head, _, rest = name.partition("/")
    split, rest = (head, rest) if head in SPLITS and rest else ("", name)
    if "/" in rest:
        quantity, _, part = rest.partition("/")
        return (quantity, split or "parts"), f"{titles[quantity].part} {part}".strip() if quantity in titles else part
    fork = _FORK.match(rest)
    quantity, suffix = (fork[1], f" ({fork[2]})") if fork else (rest, "")
    return (quantity, ""), (SPLITS.get(split, rest) + suffix)


def _title(key: tuple[str, str], titles: Mapping[str, Curve]) -> str:
    quantity, split = key
    words = titles[quantity].title if quantity in titles else _words(quantity)
    if not split:
        return words
    return words + (f", {SPLITS[split]}" if split in SPLITS else "")


def _words(name: str) -> str:
    text = name.replace("_", " ").replace("/", ", ")
    return text[:1].upper() + text[1:]


def _chart(title: str, lines: Mapping[str, Sequence[Entry]], metrics: Metrics, *, unit: str = "") -> str:
    # The same colour for a split in every chart, and in part charts the order of the names.
    fixed = {label: index for index, label in enumerate(SPLITS.values())}
    drawn = [
        ChartLine(label, [(entry.step, entry.value) for entry in lines[label]], fixed.get(label, index))
        for index, label in enumerate(sorted(lines, key=lambda label: (fixed.get(label, 9), label)))
    ]
    return line_chart(title, drawn, last_step=last_step(metrics), unit=unit)
