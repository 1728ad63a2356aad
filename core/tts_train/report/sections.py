"""The written parts of the report: headline figures, data, how to go on, and the run's own files."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tts_train.report import curves
from tts_train.report.chart import bars, number
from tts_train.report.history import Entry
from tts_train.report.source import Run

_PRIVATE = ("host", "pid")
"""Entries of the run card that a page handed to others need not tell."""
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
    if not run.dataset:
        return '<p class="none">What the training data held is not recorded in this run.</p>'
    found = _counts(run)
    told = {name: f"{value} {unit}" for name, value, unit in _amount(found)}
    told |= {_title(key): _plain(found[key]) for key in ("speakers", "languages") if found.get(key)}
    share, rows = _rows(found)
    return f'{share}{_table({**rows, **told})}<div class="charts">{_lengths(run.dataset)}</div>'


def onward(run: Run) -> str:
    """Return the commands that continue, speak with and export this run."""
    folder = shlex.quote(str(run.folder))
    commands = {
        "Hear it say something": f'tts-train synth {folder} --text "Hello there." --out hello.wav',
        "See the export formats": "tts-train formats",
        "Export it for an inference tool": f"tts-train export {folder} --format FORMAT --out voice/",
        "Continue it, or repeat it elsewhere": f"tts-train fit -c {shlex.quote(str(run.folder / 'config.yaml'))}",
    }
    items = "".join(f"<li>{escape(name)}<pre><code>{escape(line)}</code></pre></li>" for name, line in commands.items())
    return f'<ul class="commands">{items}</ul>'


def files(run: Run) -> str:
    """Return checkpoints, the run card and the configuration, folded away."""
    sizes = {name: f"{size / 1e6:,.1f} MB" for name, size in run.checkpoints.items()}
    parts = [_table(sizes) if sizes else '<p class="none">No whole checkpoint is in this run.</p>']
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
    """A bar of the share kept, and the counts with their reasons."""
    kept, dropped = found.get("kept"), found.get("dropped")
    if not isinstance(kept, int) or not isinstance(dropped, dict):
        return "", {}
    total = kept + sum(dropped.values())
    share = 100 * kept / max(total, 1)
    bar = (
        f'<div class="share" role="img" aria-label="{share:.1f} percent kept"><i style="width:{share:.2f}%"></i></div>'
    )
    reasons = {f"Dropped: {str(reason).replace('_', ' ')}": number(count) for reason, count in dropped.items() if count}
    return bar, {"Rows kept": f"{number(kept)} of {number(total)}", **reasons}


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
    report = run.dataset.get("report")
    return report if isinstance(report, Mapping) else run.dataset


def _finite(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.value == entry.value]


def _plain(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        return ", ".join(f"{key} ({_plain(inner)})" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _table(rows: Mapping[str, str]) -> str:
    cells = "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>' for k, v in rows.items())
    return f"<table>{cells}</table>" if rows else ""


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary><pre><code>{escape(text)}</code></pre></details>"
