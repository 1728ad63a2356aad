"""Step 7: where the time of a step goes on the card, and where the host waits for it."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from gpu_blocks.fits import release
from gpu_blocks.job import ROOT, Job
from gpu_blocks.recipes import Run, measure

RUNS = (Run("lm-lora", 2048), Run("lm-lora", 8192), Run("lm-full-24gb", 8192))
PROFILED, WATCHED = (4, 7), (8, 9)
"""First and last batch; the run logs at its tenth step."""
IDLE = 0.05


def run(job: Job) -> None:
    """Time, profile and watch each run; the speed is that of the batches without a profiler."""
    for each in RUNS[:1] if job.tiny else RUNS:
        with job.record.part(each.name):
            _one(job, each)


def _one(job: Job, each: Run) -> None:
    looking = _Looking(job)
    measured = measure(job, each, batches=WATCHED[-1], before=looking.before, after=looking.after)
    if not looking.tables:
        job.record.skipped(f"{each.name}: profile", "the run ended before the batches that are looked at")
        release(job, measured)
        return
    launches, (busy, whole), table = looking.tables
    steps = looking.profiled[1] - looking.profiled[0] + 1
    job.record.figure(f"{each.name}: kernels a step", launches / steps)
    job.record.figure(f"{each.name}: the card is busy", busy / steps / 1000, "ms a step")
    job.record.text("profile.txt", f"{each.name}\n{table}")
    if job.needs_card(f"{each.name}: idle time and host waits"):
        # The profiler slows the host, so at few tokens this is more than a run without it has.
        idle = 1 - busy / whole
        goal = f"under {IDLE:.0%}"
        if each.tokens >= 8192:
            job.record.criterion(f"{each.name}: idle", idle < IDLE, 100 * idle, goal=goal, unit="%")
        else:
            job.record.figure(f"{each.name}: idle", 100 * idle, "%")
        waits = sum(looking.waits.values()) / (WATCHED[1] - WATCHED[0] + 1)
        job.record.criterion(f"{each.name}: host waits in a step", waits == 0, waits, goal="0")
        for place, count in looking.waits.most_common(8):
            job.record.figure(f"{each.name}: {count} waits", place)
    release(job, measured)


def busy_of(intervals: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return for how long at least one of the intervals lasts, and the time from the first start to the last end."""
    if not intervals:
        return 0.0, 0.0
    busy, reached = 0.0, min(start for start, _ in intervals)
    first = reached
    for start, end in sorted(intervals):
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return busy, reached - first


class _Looking:
    """Turns the profiler and the watch for host waits on and off between batches."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.profiled, self.watched = ((1, 2), (3, 4)) if job.tiny else (PROFILED, WATCHED)
        self.tables: tuple[int, tuple[float, float], str] | None = None
        self.waits: Counter[str] = Counter()
        self._profiler: Any = None
        self._caught: Any = None

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
        if number == self.profiled[1]:
            self._read()
        if number == self.watched[1] and self._caught is not None:
            torch.cuda.set_sync_debug_mode("default")
            self._caught.__exit__(None, None, None)
            self._caught = None

    def _read(self) -> None:
        if self.job.cuda:
            torch.cuda.synchronize()
        self._profiler.__exit__(None, None, None)
        events = self._profiler.events() or []
        own = [event for event in events if ("CUDA" in str(event.device_type)) == self.job.cuda]
        own = [event for event in own if not getattr(event, "is_user_annotation", False)]
        busy = busy_of([(event.time_range.start, event.time_range.end) for event in own])
        averages = self._profiler.key_averages()
        order = "self_device_time_total" if self.job.cuda else "self_cpu_time_total"
        self.tables = len(own), busy, averages.table(sort_by=order, row_limit=40, max_name_column_width=80)
        self._profiler = None

    def _note(self, message: Any, *_: Any, **__: Any) -> None:
        if "synchroniz" in str(message):
            stack = [
                f"{frame.filename.split('/site-packages/')[-1].removeprefix(f'{ROOT}/')}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_stack()[:-1]
                if "warnings.py" not in frame.filename
            ]
            self.waits[" < ".join(reversed(stack[-4:]))] += 1
