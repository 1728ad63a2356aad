"""What a card needs besides the tensors, against the runs that a card has measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tts_train.memory.cards import GIB
from tts_train.memory.planner import needed
from tts_train.memory.step.step import Step
from tts_train.memory.step.tracker import KINDS

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "2026-11-28-gpu-h200" / "results.jsonl"
PLANNED = {
    "lm-lora 2048, share 0.2": (11_644_235_776, 4.150),
    "lm-lora 8192": (9_625_730_560, 2.267),
    "lm-lora 8192, share 0": (28_556_492_288, 19.898),
    "lm-qlora 2048": (3_679_612_416, 0.279),
    "lm-full-12gb 2048": (8_568_906_240, 0.012),
    "lm-full-16gb 2048, share 0.75": (16_099_270_144, 1.702),
    "lm-full-24gb 8192, share 0.6": (24_269_102_592, 9.311),
    "lm-full-80gb 8192, bf16-true, adamw8bit, share 0": (35_455_111_168, 19.728),
}
"""By the plans that were carried to the card: bytes at the peak, and the short-lived ones of them in GiB."""


def in_use() -> dict[str, float]:
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    ended = ": card memory in use"
    return {line["name"].removesuffix(ended): line["value"] for line in lines if line["name"].endswith(ended)}


def test_every_run_that_was_measured_has_its_plan():
    assert in_use().keys() == PLANNED.keys()


@pytest.mark.parametrize("name", PLANNED)
def test_what_was_in_use_lies_just_within_the_plans_sum(name):
    peak, passing = PLANNED[name]
    short = int(passing * GIB)
    breakdown = dict.fromkeys(KINDS, 0) | {"weights": peak - short, "activations": short}
    step = Step(size=1, peak_bytes=peak, breakdown=breakdown, batch_flops=0, operations={})
    room = needed(step) / GIB - in_use()[name]
    # 0.03 GiB: a plan that is exceeded is worth nothing, and one far above keeps people from what they could do.
    assert 0.03 < room < 1.0
