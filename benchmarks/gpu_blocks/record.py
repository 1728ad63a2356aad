"""What a block finds out, a line of ``results.jsonl`` each, written at once: nothing is lost with the machine."""

from __future__ import annotations

import json
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = "results.jsonl"
MOST_BYTES = 15 * 1024**2
"""A file that is carried back from a rented machine may have 16 MiB."""
RUN = "run"
"""The name of what starts the blocks, where a block's would stand."""
WHOLE = "the whole block"
LOST = 3
"""Exit code of a block whose process can do no more: its card is lost, or a part of it hangs."""


class Record:
    """Appends one JSON object a line, flushed to the disk, and prints a short form of it.

    Args:
        out: Folder of ``results.jsonl``.
        block: Name that stands in each line.
        check: Raises if the device can no longer be used; called after a part that failed.
    """

    def __init__(self, out: Path, block: str, *, check: Callable[[], None] | None = None) -> None:
        self.out = out
        self.block = block
        self._check = check

    def began(self) -> None:
        """Write that the block begins: what stands of it before this line counts no more."""
        self._write("began", self.block)

    def figure(self, name: str, value: Any, unit: str = "", *, note: str = "") -> None:
        """Write a figure that nothing is asked of."""
        self._write("figure", name, value=_plain(value), unit=unit, note=note)

    def criterion(self, name: str, ok: bool, value: Any = None, *, goal: str = "", unit: str = "") -> None:
        """Write whether an acceptance criterion is met, with the value and the goal."""
        self._write("criterion", name, ok=bool(ok), value=_plain(value), goal=goal, unit=unit)

    def skipped(self, name: str, why: str) -> None:
        """Write that a criterion or a figure was left out."""
        self._write("skipped", name, note=why)

    def failure(self, name: str, why: str) -> None:
        """Write that a part could not be done, which counts."""
        self._write("failure", name, note=why)

    def status(self, what: str, **more: Any) -> None:
        """Write how the block itself ended."""
        self._write("status", what, **more)

    @contextmanager
    def part(self, name: str, *, limit: float | None = None) -> Iterator[None]:
        """Let the block go on where a part of it fails; the failure is written, and counts.

        A process whose device is lost, or whose part does not come to its end, is ended with the exit code ``LOST``:
        after an illegal access every further call to CUDA fails, and a wait inside one cannot be interrupted.

        Args:
            name: Name of the part.
            limit: Seconds that it may take; None for as long as the block.
        """
        begun = time.monotonic()
        timer = (
            None if limit is None else threading.Timer(limit, self._leave, (name, f"not done after {limit:g} s", begun))
        )
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - one part must not hide the others
            traceback.print_exc()
            self.failure(name, f"{type(error).__name__}: {str(error)[-600:]}")
            try:
                if self._check is not None:
                    self._check()
            except Exception as lost:  # noqa: BLE001 - whatever it is, the device cannot be used
                self._leave(name, f"the device is lost after it: {str(lost)[-200:]}", begun)
        finally:
            if timer is not None:
                timer.cancel()
            self._took(name, begun)

    def _leave(self, name: str, why: str, begun: float) -> None:
        self.failure(name, why)
        self._took(name, begun)
        os._exit(LOST)

    def _took(self, name: str, begun: float) -> None:
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
    """Return the lines of ``results.jsonl`` that count: of each block, those since it last began.

    A line that was cut off by a kill is left out. Of the runs all figures stay: each may have had another card.
    """
    path = out / RESULTS
    lines: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    last = {line["block"]: number for number, line in enumerate(lines) if line["kind"] == "began"}
    return [
        line
        for number, line in enumerate(lines)
        if number >= last.get(line["block"], 0) or (line["block"] == RUN and line["kind"] == "figure")
    ]


def ended_parts(out: Path, block: str) -> list[str]:
    """Return the parts of a block that came to an end since it last began, well or not."""
    own = [line for line in read_results(out) if line["block"] == block and line["kind"] == "time"]
    return [line["name"] for line in own if line["name"] != WHOLE]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)
