"""Step 12: what a save costs, that a run of 13 GB continues, and what is said where memory does not suffice."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
import yaml

from gpu_blocks import watch
from gpu_blocks.fits import clean, command, fit, fit_words, left_in_place, no_room_asked, release
from gpu_blocks.job import ROOT, Job, words_of
from gpu_blocks.sets import orpheus_rows
from gpu_blocks.watch import GIB
from gpu_blocks.weights import orpheus_on

EVERY, LAST = 4, 8
SMALL_CARD = 8 * GIB
"""Less than the weights and the optimiser's states of the 3.3 B model take."""
AUTO_CARD = 16 * GIB
"""Room for about 28,000 tokens of LoRA, by the plans."""
FULL_ENOUGH = 0.85
"""Share of the size found that a batch has at least: the rows make a dozen batches, and only the last may lack one."""


def run(job: Job) -> None:
    """Save and continue, then the three refusals."""
    with job.record.part("save and continue"):
        _save(job)
    clean(job)
    if not job.needs_card("auto, refusal, out of memory"):
        return
    for name, part in (("out of memory", _out_of_memory), ("refusal", _refusal), ("auto", _auto)):
        with job.record.part(name):
            part(job)
        clean(job)


def _words(job: Job, recipe: str, tokens: str, *, batches: int = 12) -> list[str]:
    data, _ = orpheus_rows(job.folder("data"), tokens=130 if job.tiny else 8192, batches=batches)
    words = ["-c", str(ROOT / "configs" / "orpheus" / f"{recipe}.yaml"), *words_of(job.sizes)]
    return [*words, "--data.path", data, "--data.max_tokens", tokens]


def _save(job: Job) -> None:
    words = [*_words(job, "lm-full-24gb", "130" if job.tiny else "8192"), "--checkpoint.every_n_steps", str(EVERY)]
    folder = job.work / job.block / "saved" / "checkpoints"

    def after(number: int, _trainer: Any, _module: Any) -> None:
        if number == EVERY and job.cuda:
            torch.cuda.synchronize()  # what the card still has to do is no part of the save
        if number == LAST - 1:
            end = time.monotonic() + 60
            while not (folder / f"step-{EVERY:06d}" / "MANIFEST.json").exists() and time.monotonic() < end:
                time.sleep(0.1)

    with orpheus_on(job.device):
        measured = fit(job, words, name="saved", last=LAST, after=after)
        gaps = [begin - end for begin, end in zip(measured.begun[1:], measured.ended[:-1], strict=True)]
        usual = median([*gaps[: EVERY - 1], *gaps[EVERY:]])
        size = sum(path.stat().st_size for path in (folder / f"step-{EVERY:06d}").glob("*"))
        job.record.figure("checkpoint", size / 1e9, "GB")
        job.record.figure("training stands still for a save", gaps[EVERY - 1] - usual, "s")
        release(job, measured)
        begun = time.perf_counter()
        watch.CURRENT = again = watch.Measured(last=1, warm=1)
        run = folder.parent
        with no_room_asked(), left_in_place():
            command(fit_words(job, run, words))
        step = again.trainer.global_step
        job.record.figure("continued, to the end of the first step", time.perf_counter() - begun, "s")
    job.record.criterion("continues after the saved step", step == EVERY + 1, step, goal=str(EVERY + 1))
    release(job, again)


def _auto(job: Job) -> None:
    """Find the largest batch for LoRA on a card of 16 GiB, and train with it."""
    words = _words(job, "lm-lora", "auto", batches=48)
    clean(job)
    free, _ = torch.cuda.mem_get_info()
    with orpheus_on(job.device), taken(free - AUTO_CARD):
        measured = fit(job, words, name="auto", last=2, warm=1)
    config = yaml.safe_load((job.work / job.block / "auto" / "config.yaml").read_text(encoding="utf-8"))
    found, trained = config["data"]["max_tokens"], float(measured.timed_work)
    ok = isinstance(found, int) and measured.batches == 2 and trained >= FULL_ENOUGH * found
    goal = f"a batch at least {FULL_ENOUGH:.0%} full"
    job.record.criterion("auto finds a size and trains with it", ok, {"found": found, "trained": trained}, goal=goal)
    release(job, measured)


@contextmanager
def taken(size: int) -> Iterator[None]:
    """Hold so many bytes of the card as another program would: outside torch's memory, which a run counts as its own.

    A step that fills a large card takes ten seconds, and finding the size takes several.

    Raises:
        RuntimeError: if they are not to be had.
    """
    driver, address = ctypes.CDLL("libcuda.so.1"), ctypes.c_uint64()
    torch.cuda.synchronize()  # makes torch's context this thread's
    code = driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size))
    if code:
        raise RuntimeError(f"cuMemAlloc of {size / GIB:.1f} GiB ended with {code}.")
    try:
        yield
    finally:
        driver.cuMemFree_v2(address)


def _refusal(job: Job) -> None:
    words = [*_words(job, "lm-full-80gb", "400000"), "--plan", "refuse"]
    run = job.folder("refused")
    code, _, said = command(fit_words(job, run, words), expected=None)
    ok = code == 2 and "does not fit" in said
    job.record.criterion("what the plan says does not fit is refused", ok, said.strip()[-160:], goal="exit code 2")


def _out_of_memory(job: Job) -> None:
    words = _words(job, "lm-full-24gb", "8192")
    torch.cuda.set_per_process_memory_fraction(SMALL_CARD / torch.cuda.get_device_properties(0).total_memory)
    run = job.folder("small")
    try:
        with orpheus_on(job.device), no_room_asked():
            watch.CURRENT = watch.Measured(last=3)
            code, _, said = command(fit_words(job, run, words), expected=None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    ok = code not in (0, 2) and "out of memory" in said and "--data.max_tokens" in said
    job.record.criterion("out of memory says what to do", ok, said.strip()[-160:], goal="names --data.max_tokens")
