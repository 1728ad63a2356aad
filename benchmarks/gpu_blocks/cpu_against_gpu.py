"""Step 4: the losses of some steps on the card against those on a CPU, and what float16's loss scale does."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from gpu_blocks.fits import fit, release
from gpu_blocks.job import Job
from gpu_blocks.references import (
    BASES,
    CARRIED,
    CASES,
    LOSSES,
    PRECISIONS,
    base_of,
    drawn_alike,
    losses_of,
    write_bases,
)

ALLOWED = {"float32": 1e-4, "bfloat16": 1e-2}
DRY = ("orpheus lora", "gpt")
OVERFLOW_AT, OVERFLOW, GROWS_AFTER = 5, 2.0**32, 3


def run(job: Job) -> None:
    """Compare every stage in both precisions."""
    carried = job.carried / LOSSES
    told = json.loads(carried.read_text(encoding="utf-8")) if carried.exists() else {}
    if told:
        job.record.figure("references", f"revision {told['revision']}, torch {told['torch']}")
    else:
        job.record.skipped("carried references", "not there (make gpu-wheels): made on this machine's CPU")
        job = dataclasses.replace(job, carried=job.folder("made"))
        write_bases(dataclasses.replace(job, device="cpu"), job.carried / BASES)
    names, kinds = (DRY, ["float32"]) if job.tiny else (tuple(CASES), list(PRECISIONS))
    pairs = [(name, kind) for kind in kinds for name in names if kind in CASES[name].kinds]

    def compare(carried: bool) -> None:
        for name, kind in pairs:
            if (CASES[name].base in CARRIED) == carried:
                with job.record.part(f"{name}, {kind}"):
                    _compare(job, name, kind, told.get("losses", {}).get(f"{name}, {kind}"))

    compare(True)
    # Then what needs no reference: those that are made here may take all the time there is.
    if job.needs_card("sovits, 16-mixed"):
        with job.record.part("sovits, 16-mixed"):
            _loss_scale(job)
    compare(False)


def _compare(job: Job, name: str, kind: str, expected: list[dict[str, float]] | None) -> None:
    if expected is None:
        expected = losses_of(dataclasses.replace(job, device="cpu"), name, kind)
    found = losses_of(job, name, kind)
    worst: dict[str, float] = {}
    for one, other in zip(found, expected, strict=False):
        for loss in set(one) & set(other):
            apart = abs(one[loss] - other[loss]) / max(1.0, abs(other[loss]))
            worst[loss] = max(worst.get(loss, 0.0), apart if apart == apart else float("inf"))
    judged = {loss: apart for loss, apart in worst.items() if "loss" in loss or CASES[name].stage != "lm"}
    ok = bool(judged) and max(judged.values()) <= ALLOWED[kind]
    goal = f"within {ALLOWED[kind]:g} over {min(len(found), len(expected))} steps"
    job.record.criterion(f"{name}, {kind}: losses", ok, judged, goal=goal)


def _loss_scale(job: Job) -> None:
    """Force an overflow: the scale falls, the step is skipped, and the scale grows again."""
    scales: list[float] = []

    def begin(trainer: Any, _module: Any) -> None:
        trainer.precision_plugin.scaler.set_growth_interval(GROWS_AFTER)

    def before(number: int, trainer: Any, _module: Any) -> None:
        if number == OVERFLOW_AT:
            trainer.precision_plugin.scaler._scale.fill_(OVERFLOW)

    def after(_number: int, trainer: Any, _module: Any) -> None:
        scales.append(float(trainer.precision_plugin.scaler.get_scale()))

    base, folder = base_of(job, CASES["sovits"]), job.carried / BASES
    words = ["--backend", "gpt_sovits", "--stage", "sovits", "--model.init_from", str(base)]
    words += ["--data.path", str(folder / "sovits-v2"), "--trainer.precision", "16-mixed"]
    asked: dict[str, Any] = {"at_start": begin, "before": before, "after": after}
    with drawn_alike():
        measured = fit(job, words, name="scaled", last=40, losses=True, warm=1, **asked)
    losses = measured.read_losses()
    job.record.figure("sovits, 16-mixed: where the time went", measured.phases, "s")
    release(job, measured)
    finite = all(value == value and abs(value) < 1e30 for each in losses[OVERFLOW_AT:] for value in each.values())
    fell = scales[OVERFLOW_AT - 1] < OVERFLOW
    grew = any(later > sooner for sooner, later in zip(scales[OVERFLOW_AT:], scales[OVERFLOW_AT + 1 :], strict=False))
    job.record.criterion("sovits, 16-mixed: the scale falls after an overflow", fell, scales[OVERFLOW_AT - 1])
    job.record.criterion("sovits, 16-mixed: and grows again", grew, [f"{scale:g}" for scale in scales])
    job.record.criterion("sovits, 16-mixed: losses stay finite", finite, goal="finite")
