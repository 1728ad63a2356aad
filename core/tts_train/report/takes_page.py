"""Write ``takes.html``: what a model said of each text, the better take beside the worse one, to be heard."""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from tts_train.datasets.takes import TakePair, TakeSet
from tts_train.disk.files import disk_errors, write_atomically
from tts_train.report.chart import number
from tts_train.report.page import palette
from tts_train.report.sound import player
from tts_train.report.source import SavedSample

PAGE_FILE = "takes.html"
MAX_PAIRS = 8
"""Pairs that the page carries: those whose rewards differ most."""


def write_takes_page(folder: Path, *, onward: Sequence[str] = ()) -> Path:
    """Write the page of a finished set of takes into its folder and return its path.

    Args:
        folder: What ``tts-train sample`` wrote.
        onward: Commands that come next.

    Raises:
        DataError: if the takes cannot be read.
        DiskError: if the page cannot be written.
    """
    takes = TakeSet(folder)
    pairs, without = takes.pairs(margin=0.0)
    page = _render(takes, pairs, without, onward)
    file = folder / PAGE_FILE
    with disk_errors(file):
        write_atomically(file, page)
    return file


def _render(takes: TakeSet, pairs: Sequence[TakePair], without: Mapping[str, int], onward: Sequence[str]) -> str:
    package = importlib.resources.files(__package__)
    template = Template(package.joinpath("takes.html").read_text(encoding="utf-8"))
    return template.substitute(
        style=palette() + package.joinpath("style.css").read_text(encoding="utf-8"),
        title=escape(takes.path.resolve().name),
        subject=f"{len(takes)} takes of <b>{escape(str(takes.about.get('source', 'a model')))}</b>",
        headline=_headline(takes, pairs),
        figures=_figures(takes, pairs),
        pairs="".join(_pairs(takes, pairs)) or '<p class="none">No text has a pair.</p>',
        without=_without(without),
        onward="".join(f"<li><pre><code>{escape(line)}</code></pre></li>" for line in onward),
    )


def _headline(takes: TakeSet, pairs: Sequence[TakePair]) -> str:
    texts, sounding = len(set(takes.column("text_id"))), [each is not None for each in takes.column("seconds")]
    # As the table counts them: what has no sound has not ended well.
    ended = sum(bool(each) for each, sounds in zip(takes.column("ended"), sounding, strict=True) if sounds)
    silent = sounding.count(False)
    tiles = [
        ("Texts", number(texts), f"{number(len(takes))} takes"),
        ("Pairs", number(len(pairs)), "a better and a worse take of one text"),
        ("Ended", f"{100 * ended / max(len(takes), 1):.0f} %", "of the takes, by themselves"),
        ("Without sound", number(silent), "takes"),
    ]
    drawn = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{note}</small></dd></div>" for name, value, note in tiles)
    return f'<dl class="tiles">{drawn}</dl>'


def _figures(takes: TakeSet, pairs: Sequence[TakePair]) -> str:
    """Return a table of each figure's mean: over all takes, over the better ones and over the worse ones."""
    measured: Mapping[str, Mapping[str, Any]] = takes.about.get("figures") or {}
    groups = (range(len(takes)), [pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    lines = ""
    for name in measured:
        values = takes.column(name) if name in takes.names else []
        cells = "".join(f"<td>{_mean([values[row] for row in rows])}</td>" for rows in groups) if values else ""
        unit = str(measured[name].get("unit") or "")
        lines += f'<tr><th scope="row">{escape(f"{name} ({unit})" if unit else name)}</th>{cells}</tr>' if cells else ""
    head = "".join(f'<th scope="col">{each}</th>' for each in ("", "all takes", "better", "worse"))
    return f"<table><tr>{head}</tr>{lines}</table>" if lines else '<p class="none">Nothing was measured.</p>'


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return number(sum(known) / len(known)) if known else "–"


def _pairs(takes: TakeSet, pairs: Sequence[TakePair]) -> Iterator[str]:
    shown = sorted(pairs, key=lambda pair: -pair.margin)[:MAX_PAIRS]
    for pair in shown:
        better, worse = takes.row(pair.chosen), takes.row(pair.rejected)
        cards = _card(takes, better, "Better") + _card(takes, worse, "Worse")
        heading = f'<h3>“{escape(str(better["text"]))}”</h3><p class="aside">{escape(pair.text_id)}</p>'
        yield f'<article>{heading}<div class="takes">{cards}</div></article>'
    if len(pairs) > len(shown):
        yield f'<p class="none">{len(pairs) - len(shown)} more pairs are in <code>takes.parquet</code>.</p>'


def _card(takes: TakeSet, row: Mapping[str, Any], label: str) -> str:
    file = takes.path / str(row["sound"]) if row["sound"] else None
    body = f'<p class="none">{escape(str(row["error"] or "The sound was not kept."))}</p>'
    if file is not None and file.is_file():
        body = player(SavedSample(step=None, sound=file, facts={"text": row["text"]}), label=label)
    measured = {name: row[name] for name in takes.about.get("figures") or {} if row.get(name) is not None}
    facts = [f"{name.replace('_', ' ')} {number(value)}" for name, value in measured.items()]
    faults = [] if row["ended"] else ["cut off"]
    faults += [str(row["error"])] if row["error"] and row["seconds"] is not None else []
    faults += [f"misses the floor of {name}" for name in row["missed"] or ()]
    wrong = "".join(f' <em class="bad">{escape(fault)}</em>' for fault in faults)
    told = " · ".join(map(escape, [f"reward {number(row['reward'])}", *facts]))
    return f'<figure class="take"><figcaption>{label}</figcaption>{body}<p class="facts">{told}{wrong}</p></figure>'


def _without(without: Mapping[str, int]) -> str:
    counted = [(f"{count} text{'s' if count > 1 else ''}", why) for why, count in without.items()]
    lines = "".join(f"<li>{count}: {escape(why)}.</li>" for count, why in counted)
    return f'<ul class="first">{lines}</ul>' if lines else '<p class="none">Every text has a pair.</p>'
