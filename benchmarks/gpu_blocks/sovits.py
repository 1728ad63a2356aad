"""Step 10: GPT-SoVITS' stages at the released sizes, from seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpu_blocks.fits import fit, release
from gpu_blocks.job import ROOT, Job
from gpu_blocks.recipes import hold_against_plan, write_memory
from gpu_blocks.sets import PLANNED_CODES, gpt_rows, sovits_rows
from gpu_blocks.weights import precision_of, sovits_on

GPT = (
    "--model.tiny.width",
    "512",
    "--model.tiny.heads",
    "16",
    "--model.tiny.layers",
    "24",
    "--model.tiny.phonemes",
    "732",
)
"""The sizes of the released GPT, 77.6 million parameters."""


@dataclass(frozen=True)
class Run:
    """A recipe and how its precision is written there."""

    recipe: str
    stage: str
    version: str
    precision: str
    dry: bool = True


RUNS = (
    Run("gpt-v2", "gpt", "v2", "bf16-mixed"),
    Run("dpo-v2", "dpo", "v2", "bf16-mixed"),
    Run("sovits-v2", "sovits", "v2", "16-mixed"),
    Run("sovits-v2pro", "sovits", "v2Pro", "16-mixed", dry=False),
    Run("cfm-v4", "cfm", "v4", "bf16-mixed", dry=False),
)
BATCHES, DRY_BATCHES = 20, 2


def run(job: Job) -> None:
    """Run the recipes one after the other."""
    for each in RUNS:
        if job.tiny and not each.dry:
            job.record.skipped(each.recipe, "three stages are enough for a dry run")
            continue
        with job.record.part(each.recipe):
            _one(job, each)


def _one(job: Job, each: Run) -> None:
    folder, last = job.folder("data"), DRY_BATCHES if job.tiny else BATCHES
    gpt = each.stage in ("gpt", "dpo")
    data = (
        gpt_rows(folder, count=24 if job.tiny else 400, tiny=job.tiny)
        if gpt
        else sovits_rows(
            folder,
            count=16 if job.tiny else 48,
            tiny=job.tiny,
            version=each.version,
            speaker="Pro" in each.version,
            length=None if job.tiny else PLANNED_CODES,
        )
    )
    words = command_words(job, each, data)
    with sovits_on(job.device, real=not job.tiny):
        measured = fit(job, words, name="run", last=last, losses=True, warm=1 if job.tiny else 5)
    name = each.recipe
    seconds = max(measured.seconds, 1e-9)
    job.record.figure(f"{name}: batches/s", (measured.batches - measured.warm) / seconds)
    losses = measured.read_losses()
    finite = bool(losses) and all(math.isfinite(value) for batch in losses for value in batch.values())
    job.record.criterion(
        f"{name}: losses over {len(losses)} batches", finite, losses[-1] if losses else "none", goal="finite"
    )
    write_memory(job, name, measured)
    hold_against_plan(job, name, measured)
    release(job, measured)


def command_words(job: Job, each: Run, data: str) -> list[str]:
    """Return what is given to ``tts-train fit``."""
    words = ["-c", str(ROOT / "configs" / "gpt_sovits" / f"{each.recipe}.yaml"), "--data.path", data]
    words += ["--trainer.precision", precision_of(each.precision, job), "--trainer.max_epochs", "100"]
    if each.stage in ("gpt", "dpo") or job.tiny:
        words += ["--model.init_from", "tiny", *(() if job.tiny else GPT)]
    if job.tiny and each.stage == "sovits":
        words += ["--data.batch_size", "2"]
    return words
