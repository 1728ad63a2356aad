"""Step 12: what a save costs, that a run of 13 GB continues, and what is said where memory does not suffice."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch
import yaml

from gpu_blocks import watch
from gpu_blocks.fits import clean, command, common_words, fit, no_room_asked, release
from gpu_blocks.job import ROOT, Job, words_of
from gpu_blocks.sets import orpheus_rows
from gpu_blocks.watch import GIB
from gpu_blocks.weights import orpheus_on

EVERY, LAST = 4, 8
SMALL_CARD = 8 * GIB
"""Less than the weights and the optimiser's states of the 3.3 B model take."""


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


def _words(job: Job, recipe: str, tokens: str) -> list[str]:
    data, _ = orpheus_rows(job.folder("data"), tokens=130 if job.tiny else 8192, batches=12)
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
        with no_room_asked():
            command(["fit", *words[:2], *common_words(job, run), *words[2:]])
        step = again.trainer.global_step
        job.record.figure("continued, to the end of the first step", time.perf_counter() - begun, "s")
    job.record.criterion("continues after the saved step", step == EVERY + 1, step, goal=str(EVERY + 1))
    release(job, again)


def _auto(job: Job) -> None:
    """Find the largest batch for LoRA, and train with it."""
    words = _words(job, "lm-lora", "auto")
    with orpheus_on(job.device):
        measured = fit(job, words, name="auto", last=2, warm=1)
    config = yaml.safe_load((job.work / job.block / "auto" / "config.yaml").read_text(encoding="utf-8"))
    found = config["data"]["max_tokens"]
    job.record.criterion(
        "auto finds a size and trains with it", isinstance(found, int) and measured.batches == 2, found
    )
    release(job, measured)


def _refusal(job: Job) -> None:
    words = [*_words(job, "lm-full-80gb", "400000"), "--plan", "refuse"]
    run = job.folder("refused")
    code, _, said = command(["fit", *words[:2], *common_words(job, run), *words[2:]], expected=None)
    ok = code == 2 and "does not fit" in said
    job.record.criterion("what the plan says does not fit is refused", ok, said.strip()[-160:], goal="exit code 2")


def _out_of_memory(job: Job) -> None:
    words = _words(job, "lm-full-24gb", "8192")
    torch.cuda.set_per_process_memory_fraction(SMALL_CARD / torch.cuda.get_device_properties(0).total_memory)
    run = job.folder("small")
    try:
        with orpheus_on(job.device), no_room_asked():
            watch.CURRENT = watch.Measured(last=3)
            code, _, said = command(["fit", *words[:2], *common_words(job, run), *words[2:]], expected=None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    ok = code not in (0, 2) and "out of memory" in said and "--data.max_tokens" in said
    job.record.criterion("out of memory says what to do", ok, said.strip()[-160:], goal="names --data.max_tokens")
