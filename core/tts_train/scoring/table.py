"""Scores as Markdown: a row a figure, a column a source, each cell a mean with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tts_train.contract.metric import Better, Figure
from tts_train.scoring.summary import ALL

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
