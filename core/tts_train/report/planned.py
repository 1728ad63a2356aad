"""What the plan foretold of a run, beside what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from html import escape
from typing import Any

from tts_train.report.chart import number
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
    speed = statistics.median(speeds)
    rows = [("Work of a step", f"{number(flops / 1e12)} TFLOP", f"{number(flops * speed / 1e12)} TFLOP a second")]
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
