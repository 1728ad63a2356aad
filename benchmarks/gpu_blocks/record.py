"""What a block finds out, a line of ``results.jsonl`` each, written at once: nothing is lost with the machine."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = "results.jsonl"
MOST_BYTES = 15 * 1024**2
"""A file that is carried back from a rented machine may have 16 MiB."""


class Record:
    """Appends one JSON object a line, flushed to the disk, and prints a short form of it.

    Args:
        out: Folder of ``results.jsonl``.
        block: Name that stands in each line.
    """

    def __init__(self, out: Path, block: str) -> None:
        self.out = out
        self.block = block

    def figure(self, name: str, value: Any, unit: str = "", *, note: str = "") -> None:
        """Write a figure that nothing is asked of."""
        self._write("figure", name, value=_plain(value), unit=unit, note=note)

    def criterion(self, name: str, ok: bool, value: Any = None, *, goal: str = "", unit: str = "") -> None:
        """Write whether an acceptance criterion is met, with the value and the goal."""
        self._write("criterion", name, ok=bool(ok), value=_plain(value), goal=goal, unit=unit)

    def skipped(self, name: str, why: str) -> None:
        """Write that a criterion or a figure was left out."""
        self._write("skipped", name, note=why)

    def status(self, what: str, **more: Any) -> None:
        """Write how the block itself ended."""
        self._write("status", what, **more)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Let the block go on where a part of it fails; the failure is written, and counts."""
        begun = time.monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one part must not hide the others
            traceback.print_exc()
            self._write("failure", name, note=f"{type(error).__name__}: {str(error)[-600:]}")
        finally:
            self._write("time", name, value=round(time.monotonic() - begun, 2), unit="s")

    def text(self, file: str, text: str) -> None:
        """Append to a text file beside the results, as far as it may grow."""
        path = self.out / file
        room = MOST_BYTES - (path.stat().st_size if path.exists() else 0)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(f"==== {self.block}\n{text}\n"[: max(0, room)])

    def _write(self, kind: str, name: str, **values: Any) -> None:
        line = {"block": self.block, "kind": kind, "name": name, **values}
        with (self.out / RESULTS).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        shown = " ".join(f"{key}={value}" for key, value in values.items() if value not in ("", None))
        print(f"[{self.block}] {kind} {name} {shown}"[:400], flush=True)


def read_results(out: Path) -> list[dict[str, Any]]:
    """Return the lines of ``results.jsonl``; a line that was cut off by a kill is left out."""
    path = out / RESULTS
    lines: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
