"""Step 7: where the time of a step goes on the card, and where the host waits for it."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from typing import Any

import torch

from gpu_blocks.fits import release
from gpu_blocks.job import Job
from gpu_blocks.recipes import Run, measure

RUNS = (Run("lm-lora", 2048), Run("lm-lora", 8192), Run("lm-full-24gb", 8192))
PROFILED, WATCHED = (5, 6), (8, 9)
"""Batches; the run logs at its tenth step."""
IDLE = 0.05


def run(job: Job) -> None:
    """Time, profile and watch each run; the speed is that of the batches without a profiler."""
    for each in RUNS[:1] if job.tiny else RUNS:
        with job.record.part(each.name):
            _one(job, each)


def _one(job: Job, each: Run) -> None:
    looking = _Looking(job)
    measured = measure(job, each, batches=WATCHED[-1], before=looking.before, after=looking.after)
    steps = len(PROFILED)
    if not looking.tables:
        job.record.skipped(f"{each.name}: profile", "the run ended before the batches that are looked at")
        release(job, measured)
        return
    launches, busy, table = looking.tables
    job.record.figure(f"{each.name}: kernels a step", launches / steps)
    job.record.figure(f"{each.name}: the card is busy", busy / steps / 1000, "ms a step")
    job.record.text("profile.txt", f"{each.name}\n{table}")
    if job.needs_card(f"{each.name}: idle time and host waits"):
        wall = looking.wall
        idle = max(0.0, 1 - busy / steps / 1e6 / wall) if wall else 0.0
        goal = f"under {IDLE:.0%}"
        if each.tokens >= 8192:
            job.record.criterion(f"{each.name}: idle", idle < IDLE, 100 * idle, goal=goal, unit="%")
        else:
            job.record.figure(f"{each.name}: idle", 100 * idle, "%")
        waits = sum(looking.waits.values()) / len(WATCHED)
        job.record.criterion(f"{each.name}: host waits in a step", waits == 0, waits, goal="0")
        for place, count in looking.waits.most_common(8):
            job.record.figure(f"{each.name}: {count} waits", place)
    release(job, measured)


class _Looking:
    """Turns the profiler and the watch for host waits on and off between batches."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.profiled, self.watched = ((1, 2), (3, 4)) if job.tiny else (PROFILED, WATCHED)
        self.tables: tuple[int, float, str] | None = None
        self.waits: Counter[str] = Counter()
        self.wall = 0.0
        self._profiler: Any = None
        self._caught: Any = None
        self._marks: list[Any] = []

    def before(self, number: int, _trainer: Any, _module: Any) -> None:
        """Begin what begins with this batch."""
        from torch.profiler import ProfilerActivity, profile

        if number == self.profiled[0]:
            if self.job.cuda:
                torch.cuda.synchronize()
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.job.cuda else [])]
            self._profiler = profile(activities=activities)
            self._profiler.__enter__()
        if number == self.watched[0] and self.job.cuda:
            self._caught = warnings.catch_warnings()
            self._caught.__enter__()
            warnings.simplefilter("always")
            warnings.showwarning = self._note  # type: ignore[assignment]
            torch.cuda.set_sync_debug_mode("warn")

    def after(self, number: int, _trainer: Any, _module: Any) -> None:
        """End what ends with this batch."""
        if self.job.cuda and number in (self.profiled[0] - 2, self.profiled[0] - 1):
            self._marks.append(torch.cuda.Event(enable_timing=True))
            self._marks[-1].record()
        if number == self.profiled[1]:
            self._read()
        if number == self.watched[1] and self._caught is not None:
            torch.cuda.set_sync_debug_mode("default")
            self._caught.__exit__(None, None, None)
            self._caught = None

    def _read(self) -> None:
        if self.job.cuda:
            torch.cuda.synchronize()
            self.wall = float(self._marks[0].elapsed_time(self._marks[1])) / 1000
        self._profiler.__exit__(None, None, None)
        events = self._profiler.events() or []
        own = [event for event in events if ("CUDA" in str(event.device_type)) == self.job.cuda]
        own = [event for event in own if not getattr(event, "is_user_annotation", False)]
        busy = sum(event.time_range.elapsed_us() for event in own)
        averages = self._profiler.key_averages()
        order = "self_device_time_total" if self.job.cuda else "self_cpu_time_total"
        self.tables = len(own), busy, averages.table(sort_by=order, row_limit=40, max_name_column_width=80)
        self._profiler = None

    def _note(self, message: Any, *_: Any, **__: Any) -> None:
        if "synchroniz" in str(message):
            stack = [
                f"{frame.filename.split('/site-packages/')[-1].split('/wt/')[-1]}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_stack()[:-1]
                if "warnings.py" not in frame.filename
            ]
            self.waits[" < ".join(reversed(stack[-4:]))] += 1
