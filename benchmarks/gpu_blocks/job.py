"""What a block is told: device, size, where to work and write, and what was carried along."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gpu_blocks.record import Record

ROOT = Path(__file__).parents[2]
WHEELS = ROOT / ".gpu-wheels"
"""What ``make gpu-wheels`` gathers: wheels, plans, references and small bases."""

TO_TELL = 5.0
"""Seconds that a block keeps for ending its processes and writing what came of them."""
FULL = {"hidden": 3072, "layers": 28, "heads": 24, "kv_heads": 8, "mlp": 8192}
TINY = {"hidden": 32, "layers": 2, "heads": 2, "kv_heads": 1, "mlp": 64}
SMALL = {"hidden": 256, "layers": 4, "heads": 4, "kv_heads": 2, "mlp": 768}
"""Between the two: where a run is started many times and its speed says nothing."""


@dataclass(frozen=True)
class Job:
    """One block's surroundings."""

    block: str
    device: str
    """``cuda`` or ``cpu``."""
    tiny: bool
    """Small networks and few steps, for a dry run; its figures mean nothing."""
    out: Path
    work: Path
    """Folder for runs and data; nothing in it is carried back."""
    carried: Path = WHEELS
    finished: Collection[str] = ()
    """Parts that an earlier process of this block came to the end of; see ``Block.resumes``."""
    limit: float = 3600.0
    """Seconds after which this block's processes are ended, less if the budget is near its end."""
    begun: float = field(default_factory=time.monotonic)
    record: Record = field(init=False)

    def __post_init__(self) -> None:
        record = Record(self.out, self.block, check=_check_card if self.cuda else None)
        object.__setattr__(self, "record", record)

    @property
    def cuda(self) -> bool:
        """Whether this is a card."""
        return self.device == "cuda"

    def left(self) -> float:
        """Return the seconds in which a last part must be over for its end to be written."""
        return max(1.0, self.limit - TO_TELL - (time.monotonic() - self.begun))

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the Orpheus whose speed is measured."""
        return TINY if self.tiny else FULL

    @property
    def small(self) -> dict[str, int]:
        """Sizes of an Orpheus that is started many times."""
        return TINY if self.tiny else SMALL

    def needs_card(self, name: str) -> bool:
        """Tell whether there is a card; where there is none, write that ``name`` is left out."""
        if not self.cuda:
            self.record.skipped(name, "needs a card")
        return self.cuda

    @cached_property
    def plans(self) -> dict[str, Any]:
        """Plans by recipe and size of the batch, made beforehand on a CPU; empty if they were not carried."""
        path = self.carried / "plans.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return found.get("plans", {})

    def folder(self, name: str) -> Path:
        """Return an empty folder of this block."""
        import shutil

        path = self.work / self.block / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path


def words_of(sizes: dict[str, int]) -> list[str]:
    """Return the options that make Orpheus's network of chance of these sizes, with every layer recomputed.

    Left to the card, the share would be planned at each start, and a large card measured as no small one behaves.
    """
    options = [word for name, value in sizes.items() for word in (f"--model.tiny.{name}", str(value))]
    return ["--model.init_from", "tiny", *options, "--model.checkpoint_share", "1.0"]


def _check_card() -> None:
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def threads() -> int:
    """Return how many threads this process may use."""
    return len(os.sched_getaffinity(0))
