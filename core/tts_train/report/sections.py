"""The written parts of the report: headline figures, the plan beside the run, data, and the run's own files."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import Any

from tts_train.contract.backend import Curve
from tts_train.report import curves
from tts_train.report.chart import bars, number
from tts_train.report.history import Entry
from tts_train.report.source import Run

PLAN = "plan"
"""Entry of the run card: what ``tts-train plan --json`` says, as ``fit`` had it before the first step."""
_GIB = 1024**3

Row = tuple[str, str, str]


def plan_and_run(run: Run) -> str:
    """Return a table of memory, work and time, foretold and measured; nothing for a run that was not planned."""
    plan = run.card.get(PLAN)
    if not isinstance(plan, Mapping):
        return ""
    rows = [*_memory(plan, run), *_time(plan, run)]
    cells = "".join(
        f'<tr><th scope="row">{escape(what)}</th><td>{escape(told)}</td><td>{escape(found)}</td></tr>'
        for what, told, found in rows
    )
    head = '<tr><th></th><th scope="col">foretold</th><th scope="col">measured</th></tr>'
    return f'<h3 class="plan">The plan and the run</h3><table>{head}{cells}</table>' if cells else ""


def _memory(plan: Mapping[str, Any], run: Run) -> list[Row]:
    peak, needed = plan.get("peak_bytes"), plan.get("needed_bytes")
    measured = _values(run, "memory/peak_gib")
    found = f"{max(measured):.2f} GiB" if measured else "not logged"
    rows = [("Tensors at the peak", f"{peak / _GIB:.2f} GiB", found)] if isinstance(peak, int | float) else []
    if isinstance(needed, int | float):
        card = plan.get("gpu_bytes")
        has = f"the card has {card / _GIB:.1f} GiB" if isinstance(card, int | float) else ""
        rows.append(("With what a card needs besides", f"{needed / _GIB:.2f} GiB", has))
    return rows


def _time(plan: Mapping[str, Any], run: Run) -> list[Row]:
    """Work and time of an epoch, where the run logged its speed."""
    speeds = [speed for speed in _values(run, "throughput/steps_per_s") if speed > 0]
    flops = plan.get("step_flops")
    if not speeds or not isinstance(flops, int | float) or not flops:
        return []
    # The first steps are slow, and a median does not know of them.
    speed = statistics.median(speeds)
    rows = [("Work of a step", f"{number(flops / 1e12)} TFLOP", f"{number(flops * speed / 1e12)} TFLOP a second")]
    # The plan lists every card; the span of those that fit is shown.
    hours = [told for card in (plan.get("cards") or {}).values() if (told := _hours(card))]
    batches, gathered = plan.get("batches_per_epoch"), _accumulated(run)
    if hours and isinstance(batches, int):
        steps = batches / max(int(plan.get("ranks") or 1), 1) / gathered
        span = f"{_spelt(min(low for low, _ in hours))} to {_spelt(max(high for _, high in hours))}, by card"
        rows.append(("An epoch", span, _spelt(steps / speed / 3600)))
    return rows


def _hours(card: object) -> tuple[float, float] | None:
    told = card.get("epoch_hours") if isinstance(card, Mapping) and card.get("fits") else None
    return (float(told[0]), float(told[1])) if told else None


def _accumulated(run: Run) -> int:
    trainer = run.config.get("trainer")
    count = trainer.get("accumulate_grad_batches") if isinstance(trainer, Mapping) else None
    return count if isinstance(count, int) and count > 0 else 1


def _values(run: Run, name: str) -> list[float]:
    return [entry.value for entry in run.metrics.get(name, ()) if math.isfinite(entry.value)]


def _spelt(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"


TITLES = "titles"
"""Where ``run.json`` keeps what ``Backend.titles`` said."""
# Entries of the run card that a page handed to others need not tell.
_PRIVATE = ("host", "pid")
FEW, MAX_NAMES = 3, 20
"""Voices or languages up to which they are told in a line, and beyond which the rest is counted only."""
NOTHING_LOGGED = '<p class="none">No figures were logged.</p>'


def headline(run: Run) -> str:
    """Return the few figures a reader looks for first; those that are unknown are left out."""
    tiles = [*_progress(run), *_losses(run), *_speed(run), *_amount(_counts(run))]
    if not tiles:
        return NOTHING_LOGGED
    drawn = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in tiles
    )
    return f'<dl class="tiles">{drawn}</dl>'


def charts(drawn: Sequence[str], missing: str) -> str:
    """Lay charts out in a grid, or say what is missing."""
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else f'<p class="none">{escape(missing)}</p>'


def data(run: Run) -> str:
    """Return rows kept and dropped with reasons, hours, voices and lengths."""
    if not run.prepared_set:
        return '<p class="none">What the training data held is not recorded in this run.</p>'
    found = _counts(run)
    told = {name: f"{value} {unit}" for name, value, unit in _amount(found)}
    told |= {_title(key): _plain(found[key]) for key in ("speakers", "languages") if _few(found.get(key))}
    share, rows = _rows(found)
    named = "".join(
        _counted(title, found.get(key)) for title, key in (("Voices", "speakers"), ("Languages", "languages"))
    )
    lengths = f'<div class="charts">{_lengths(run.prepared_set)}</div>'
    return f"{share}{table({**rows, **told})}{_reasons(run, found)}{named}{lengths}"


def heard(run: Run) -> str:
    """Return the charts of what listening while training measured; nothing where nothing was heard."""
    drawn = curves.heard_charts(run.metrics)
    return charts(drawn, "") if drawn else ""


def languages(run: Run) -> set[str]:
    """Return the languages of the training data, as far as they are known."""
    known = _counts(run).get("languages")
    return set(known) if isinstance(known, Mapping) else set()


def titles(run: Run) -> dict[str, Curve]:
    """Return how the run's backend wants its figures named; runs from before this was written have none."""
    found = run.card.get(TITLES)
    given = found if isinstance(found, Mapping) else {}
    known = {each.name for each in fields(Curve)}
    return {
        name: Curve(**{key: str(value) for key, value in words.items() if key in known})
        for name, words in given.items()
        if isinstance(words, Mapping) and "title" in words
    }


def files(run: Run) -> str:
    """Return checkpoints, the run card and the configuration, folded away."""
    sizes = {name: f"{size / 1e6:,.1f} MB" for name, size in run.checkpoints.items()}
    parts = [table(sizes) if sizes else '<p class="none">No whole checkpoint is in this run.</p>']
    card = {key: value for key, value in run.card.items() if key not in _PRIVATE}
    parts += [_folded("Run card (run.json)", json.dumps(card, indent=2, ensure_ascii=False))] if card else []
    parts += [_folded("Configuration (config.yaml)", run.config_text)] if run.config_text else []
    return "".join(parts)


def nested(value: Any, *keys: str) -> Any:  # noqa: ANN401 - YAML
    """Return the value under a path of keys, or None."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def notes(run: Run) -> str:
    """Return what could not be read, if anything."""
    if not run.notes:
        return ""
    return f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in run.notes)}</ul>'


def status(run: Run) -> str:
    """Return how the run ended, in the words of its run card."""
    reason = run.card.get("exit_reason")
    if reason:
        return str(reason).replace("_", " ")
    return "not finished" if run.card else "no run card"


def _progress(run: Run) -> list[tuple[str, str, str]]:
    step = curves.last_step(run.metrics)
    if not step:
        return []
    limit = nested(run.config, "trainer", "max_steps")
    share = f"of {number(limit)}" if isinstance(limit, int) and limit > 0 else "done"
    return [("Steps", number(step), share)]


def _losses(run: Run) -> list[tuple[str, str, str]]:
    tiles = []
    # A run that diverged has NaN at its end, of which no best can be found.
    validation = _finite(run.metrics.get("val/loss", ()))
    if validation:
        best = min(validation, key=lambda entry: entry.value)
        tiles.append(("Validation loss", number(best.value), f"best, at step {number(best.step)}"))
    training = _finite(run.metrics.get("train/loss", run.metrics.get("train/loss_step", ())))
    if training:
        tiles.append(("Training loss", number(training[-1].value), f"from {number(training[0].value)}"))
    return tiles


def _speed(run: Run) -> list[tuple[str, str, str]]:
    tiles = []
    for name, unit in (("tokens_per_s", "tokens a second"), ("audio_s_per_s", "seconds of speech a second")):
        values = [entry.value for entry in _finite(run.metrics.get(f"throughput/{name}", ()))]
        if values:
            tiles.append(("Speed", number(statistics.median(values)), unit))
            break
    memory = _finite(run.metrics.get("memory/peak_gib", ()))
    if memory:
        tiles.append(("Peak memory", f"{max(entry.value for entry in memory):.1f}", "GiB"))
    return tiles


def _amount(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    hours = found.get("hours")
    if not isinstance(hours, int | float):
        return []
    return [("Speech", number(hours), "hours") if hours >= 1 else ("Speech", number(round(hours * 60, 1)), "minutes")]


def _rows(found: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    """A bar of the share kept, and how many that is."""
    kept, dropped = found.get("kept"), found.get("dropped")
    if not isinstance(kept, int) or not isinstance(dropped, dict):
        return "", {}
    total = kept + sum(dropped.values())
    share = 100 * kept / max(total, 1)
    bar = (
        f'<div class="share" role="img" aria-label="{share:.1f} percent kept"><i style="width:{share:.2f}%"></i></div>'
    )
    return bar, {"Rows kept": f"{number(kept)} of {number(total)}"}


def _reasons(run: Run, found: Mapping[str, Any]) -> str:
    """Bars of what was dropped, and some of the rows, folded away."""
    dropped = found.get("dropped")
    named = dropped.items() if isinstance(dropped, Mapping) else ()
    counts = {f"Dropped: {str(reason).replace('_', ' ')}": count for reason, count in named if count}
    examples = {reason: rows for reason, rows in run.dropped.items() if rows}
    told = "\n".join(f"{reason.replace('_', ' ')}\n  " + "\n  ".join(rows) for reason, rows in examples.items())
    folded = _folded("Some of the rows that were dropped", told) if told else ""
    return _bar_rows(counts) + folded


def _counted(title: str, counts: object) -> str:
    """Bars of many voices or languages; few are told in a line of the table."""
    if not isinstance(counts, Mapping) or _few(counts):
        return ""
    shown = dict(list(counts.items())[:MAX_NAMES])
    more = f'<p class="aside">and {len(counts) - len(shown)} more</p>' if len(counts) > len(shown) else ""
    return f"<h3>{title}</h3>{_bar_rows(shown)}{more}"


def _few(counts: object) -> bool:
    return bool(counts) and (not isinstance(counts, Mapping) or len(counts) <= FEW)


def _bar_rows(counts: Mapping[str, float]) -> str:
    most = max([*counts.values(), 1])
    rows = "".join(
        f"<li><span>{escape(str(name))}</span>"
        f'<i style="width:{100 * count / most:.1f}%"></i><b>{number(count)}</b></li>'
        for name, count in counts.items()
    )
    return f'<ul class="rows">{rows}</ul>' if rows else ""


def _lengths(index: Mapping[str, Any]) -> str:
    """Bars of the index's histogram, ``[from, below, rows]`` each."""
    triples = nested(index, "lengths", "histogram") or []
    counts = {f"{number(low)} to {number(below)}": rows for low, below, rows in triples}
    if not counts:
        return ""
    unit = str(index.get("length_column", "length")).removeprefix("num_").replace("_", " ")
    ends = (number(triples[0][0]), number(triples[-1][1]))
    return bars(f"Rows by {unit}", counts, ends=ends)


def _counts(run: Run) -> Mapping[str, Any]:
    """What became of the rows: the index's report, or the run card's own entries."""
    report = run.prepared_set.get("report")
    return report if isinstance(report, Mapping) else run.prepared_set


def _finite(entries: Sequence[Entry]) -> list[Entry]:
    # Only NaN differs from itself, and whatever was not finite is read back as NaN (history.py).
    return [entry for entry in entries if entry.value == entry.value]


def _plain(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return ", ".join(f"{key} ({_plain(inner)})" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def table(rows: Mapping[str, str]) -> str:
    """Return rows of a name and a value."""
    cells = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in rows.items())
    return f"<table>{cells}</table>" if rows else ""


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary><pre><code>{escape(text)}</code></pre></details>"
