"""Every stage of both backends as a side: made-up sets that need no recordings, and the words that train on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from faults_sides import Ours, Plan

from tests.gpt_sovits.gpt_sets import write_set
from tests.gpt_sovits.sovits_rows import write_rows
from tests.orpheus.test_data import write_set as write_orpheus

STEPS, EVERY = 8, 2


def make(folder: Path) -> list[Ours]:
    """Write a small set for each stage into ``folder`` and return the sides."""
    folder.mkdir(parents=True, exist_ok=True)
    lm = folder / "lm"
    write_orpheus(lm, list(np.random.default_rng(0).integers(3, 12, 24)))
    gpt = write_set(folder / "gpt.parquet", 24)
    sound = write_rows(folder / "sovits", count=8)
    return [
        _side("orpheus", "lm", ["--data.path", str(lm), "--data.max_tokens", "256"]),
        _side("gpt_sovits", "gpt", ["--data.path", gpt, "--data.max_tokens", "300", *_ONE]),
        _side("gpt_sovits", "dpo", ["--data.path", gpt, "--data.max_tokens", "300", *_ONE]),
        _side("gpt_sovits", "sovits", ["--data.path", sound, "--data.batch_size", "2"]),
        _side("gpt_sovits", "cfm", ["--data.path", sound, "--data.batch_size", "2", "--model.version", "v4"]),
    ]


_ONE = ("--trainer.accumulate_grad_batches", "1")


def _side(backend: str, stage: str, words: list[str]) -> Ours:
    name = f"{backend} {stage}"
    chosen = ("--backend", backend, "--stage", stage, "--model.init_from", "tiny", *words)
    return Ours(name, words=(*chosen, "--checkpoint.monitor", "null"), plan=Plan(steps=STEPS, every=EVERY))
