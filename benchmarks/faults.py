"""The fault plan: kills, signals, full disks, damage, NaN and hostile files, ours beside Trainer and Lightning.

    python benchmarks/faults.py --name 2026-01-31-faults-cpu-2core

Trials run in lanes of one process each, forked from one warm parent; every trial forks its own children from there.
"""

from __future__ import annotations

import os

os.environ.update(
    OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1",
    ARROW_DEFAULT_MEMORY_POOL="system", TOKENIZERS_PARALLELISM="false", TOKENIZERS_NO_PARALLELISM="1",
)  # fmt: skip

import argparse
import importlib
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parents[1]))  # the tests' malformed and hostile files

import torch
from common import machine, save, wait_for_quiet
from faults_plan import Trial, groups
from faults_table import report
from faults_trials import clean, facts, straight

_WARM = ("tts_train.training.run", "omegaconf", "tts_train_orpheus.stage",
         "tts_train_gpt_sovits.stages.gpt.dpo", "tts_train_gpt_sovits.stages.sovits.module",
         "tts_train_gpt_sovits.stages.sovits.cfm_module", "faults_ours", "faults_peers")  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where the trials' files go: on the disk, and (as TMPDIR) in memory if there is such a file system."""

    disk: Path
    memory: Path

    def of(self, number: int, *, same: bool = False) -> tuple[Path, Path]:
        """Return folder and TMPDIR of a trial."""
        return self.disk / f"t{number:04}" / "run", (self.disk if same else self.memory) / f"t{number:04}" / "tmp"


def main() -> None:
    """Run the plan and write the table."""
    arguments = _arguments()
    wait_for_quiet(arguments.wait)
    about = {**machine(), "load_before": round(os.getloadavg()[0], 2)}
    began = time.monotonic()
    torch.set_num_threads(1)
    for module in _WARM:
        importlib.import_module(module)
    threads = [(task / "comm").read_text(encoding="ascii").strip() for task in Path("/proc/self/task").iterdir()]
    place = _place()
    try:
        rows, bases = _run(place, arguments)
    finally:
        shutil.rmtree(place.disk, ignore_errors=True)
        shutil.rmtree(place.memory, ignore_errors=True)
    about |= {
        "seconds": round(time.monotonic() - began, 1), "cpu_s": round(_cpu_seconds(), 1), "threads": threads,
        "lanes": arguments.lanes,
        "disk": _system_of(place.disk), "tmpdir": _system_of(place.memory), "load_after": round(os.getloadavg()[0], 2),
    }  # fmt: skip
    results = {"machine": about, "bases": bases, "rows": rows}
    text = report(results)
    save(arguments.name, results, text)
    print(text)


def _run(place: Place, arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    only = arguments.only.split(",") if arguments.only else None
    sides, trials = groups(place.disk, share=arguments.share, only=only)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(arguments.lanes, mp_context=context) as lanes:
        folders = [place.of(9000 + n) for n in range(len(sides))]
        waiting = [lanes.submit(straight, side, *folder) for side, folder in zip(sides, folders, strict=True)]
        bases = {side.name: made.result() for side, made in zip(sides, waiting, strict=True)}
        end = time.monotonic() + 60 * arguments.minutes
        begun = [lanes.submit(_trial, one, bases, end, *place.of(n, same=one.same)) for n, one in enumerate(trials)]
        rows = [_result(trial, made) for trial, made in zip(trials, begun, strict=True)]
    for base in bases.values():
        del base["names"]
    return rows, bases


def _trial(trial: Trial, bases: dict[str, Any], end: float, folder: Path, temporary: Path) -> dict[str, Any]:
    if time.monotonic() > end:
        return {"skipped": "no time was left (--minutes)"}
    folder.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        work: Callable[..., dict[str, Any]] = trial.work
        given = (trial.side, bases[trial.side.name]) if trial.side is not None else ()
        return {**work(*given, folder, temporary, **trial.options), "trial_s": round(time.monotonic() - began, 1)}
    finally:
        clean(folder, temporary)


def _result(trial: Trial, made: Future[dict[str, Any]]) -> dict[str, Any]:
    name = trial.side.name if trial.side is not None else "tts-train"
    row = {"fault": trial.fault, "side": name, **made.result()}
    print(facts(row), file=sys.stderr, flush=True)
    return row


def _place() -> Place:
    memory = Path("/dev/shm")
    disk = Path(tempfile.mkdtemp(prefix="faults-"))
    other = memory.is_dir() and memory.stat().st_dev != disk.stat().st_dev
    return Place(disk, Path(tempfile.mkdtemp(prefix="faults-", dir=memory)) if other else disk / "memory")


def _cpu_seconds() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def _system_of(folder: Path) -> str:
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    inside = [words for words in mounts if str(folder).startswith(words[1])]
    return str(max(inside, key=lambda words: len(words[1]))[2]) if inside else "?"


def _arguments() -> argparse.Namespace:
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--name", required=True, help="of the files in results/")
    reader.add_argument("--lanes", type=int, default=2, help="trials at a time")
    reader.add_argument("--share", type=float, default=1.0, help="of the random trials, for a quick look")
    reader.add_argument("--only", default="", help="faults by number, separated by commas (F1,F4)")
    reader.add_argument("--minutes", type=float, default=60.0, help="after which no trial is begun")
    reader.add_argument("--wait", type=float, default=0.0, help="minutes to wait for a quiet machine")
    return reader.parse_args()


if __name__ == "__main__":
    main()
