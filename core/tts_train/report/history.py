"""The scalar history of a run: one JSON line per value in ``logs/metrics.jsonl``, torch-free to read and write."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tts_train.disk.files import patiently

METRICS_FILE = "logs/metrics.jsonl"


@dataclass(frozen=True)
class Entry:
    """One value of one metric."""

    step: int
    """Optimiser steps done when it was measured; 0 before the first."""
    epoch: int
    """Passes over the data completed, from 0."""
    name: str
    """Path of the metric, for example ``train/loss`` or ``val/accuracy/slot0``."""
    value: float
    """The value; NaN where it was not finite."""


class History:
    """The metrics file of one run directory: append, read, and cut back when a run continues.

    A line is written whole in one call, so a killed run leaves at most one torn line, the last; it is ignored when
    read and removed by the next :meth:`keep_until`.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / METRICS_FILE

    def append(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Add one line for each value; values that are not finite are stored as null."""
        lines = "".join(_line(Entry(step, epoch, name, float(value))) for name, value in values.items())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            # One write: lines of two processes, or of a reader in between, never mix.
            file.write(lines)

    def entries(self) -> list[Entry]:
        """Return every entry in the order written; an empty list where the file does not exist."""
        if not self.path.exists():
            return []
        # Read while a run writes: what is torn is left out, not refused.
        text = self.path.read_text(encoding="utf-8", errors="replace")
        return list(_parse(text))

    def keep_until(self, step: int) -> int:
        """Drop entries beyond ``step``, replacing the file in one move; return how many were dropped.

        Called when a run continues from ``step``, whose later steps will be done again.
        """
        if not self.path.exists():
            return 0
        entries = self.entries()
        kept = [entry for entry in entries if entry.step <= step]
        draft = self.path.with_name(self.path.name + ".part")
        with draft.open("w", encoding="utf-8") as file:
            file.write("".join(map(_line, kept)))
            file.flush()
            # Before the rename: a power cut must not leave an empty history in place of the whole one.
            os.fsync(file.fileno())
        patiently(lambda: draft.replace(self.path))
        return len(entries) - len(kept)


def series(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Group entries by name, each group sorted by step; of two values at one step the later one counts."""
    groups: dict[str, dict[int, Entry]] = {}
    for entry in entries:
        # A step that was done again after a kill is in the file twice until keep_until.
        groups.setdefault(entry.name, {})[entry.step] = entry
    return {name: [points[step] for step in sorted(points)] for name, points in groups.items()}


def _line(entry: Entry) -> str:
    value = entry.value if math.isfinite(entry.value) else None
    return json.dumps({"step": entry.step, "epoch": entry.epoch, "name": entry.name, "value": value}) + "\n"


def _parse(text: str) -> Iterator[Entry]:
    # What follows the last newline was torn by a kill.
    for line in text.split("\n")[:-1]:
        try:
            row = json.loads(line)
            value = math.nan if row["value"] is None else float(row["value"])
            yield Entry(int(row["step"]), int(row["epoch"]), str(row["name"]), value)
        except (ValueError, KeyError, TypeError):
            # A line that a full disk cut short, followed by a later run's lines: the rest is still good.
            continue
