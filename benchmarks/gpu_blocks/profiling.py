"""Step 7: where the time of a step goes on the card, and where the host waits for it."""

from __future__ import annotations

import cProfile
import io
import pstats
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
PROFILED, TOLD, WATCHED = (4, 5), 6, (7, 8)
"""First and last batch, and that in which Python's own functions are timed; the run logs at its tenth step."""
OWN = ("set_sync_debug_mode", "prototype feature")
"""What is in the stack or the text of a warning that the watch for host waits itself brings about."""
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
    job.record.figure(f"{each.name}: where the time went", measured.phases, "s")
    if looking.functions:
        job.record.text("profile.txt", f"{each.name}: one step of the host, function by function\n{looking.functions}")
    if job.needs_card(f"{each.name}: idle time and host waits"):
        # The profiler slows the host a little, so at few tokens this is more than a run without it has.
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


def is_wait(message: str, stack: Sequence[str]) -> bool:
    """Tell whether a warning is about a host wait of the run, not one that the watch for them brings about."""
    return "synchroniz" in message and not any(word in line for line in (message, *stack) for word in OWN)


class _Looking:
    """Turns the profiler and the watch for host waits on and off between batches."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.profiled, self.told, self.watched = ((1, 1), 2, (3, 4)) if job.tiny else (PROFILED, TOLD, WATCHED)
        self.functions = ""
        self._cprofile: Any = None
        self.tables: tuple[int, tuple[float, float], str] | None = None
        self.waits: Counter[str] = Counter()
        self._profiler: Any = None
        self._caught: Any = None

    def before(self, number: int, _trainer: Any, _module: Any) -> None:
        """Begin what begins with this batch."""
        from torch.profiler import ProfilerActivity, profile

        if number == self.told:
            self._cprofile = cProfile.Profile()
            self._cprofile.enable()
        if number == self.profiled[0]:
            if self.job.cuda:
                torch.cuda.synchronize()
            # Kernels alone: with the host's operators beside them reading four steps took some 20 s.
            self._profiler = profile(activities=[ProfilerActivity.CUDA if self.job.cuda else ProfilerActivity.CPU])
            self._profiler.__enter__()
        if number == self.watched[0] and self.job.cuda:
            self._caught = warnings.catch_warnings()
            self._caught.__enter__()
            warnings.simplefilter("always")
            warnings.showwarning = self._note  # type: ignore[assignment]
            torch.cuda.set_sync_debug_mode("warn")

    def after(self, number: int, _trainer: Any, _module: Any) -> None:
        """End what ends with this batch."""
        if number == self.told:
            self._cprofile.disable()
            text = io.StringIO()
            pstats.Stats(self._cprofile, stream=text).sort_stats("tottime").print_stats(30)
            self.functions, self._cprofile = text.getvalue(), None
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
        stack = [
            f"{frame.filename.split('/site-packages/')[-1].removeprefix(f'{ROOT}/')}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_stack()[:-1]
            if "warnings.py" not in frame.filename
        ]
        if is_wait(str(message), stack[-4:]):
            self.waits[" < ".join(reversed(stack[-4:]))] += 1
