"""Every stage of GPT-SoVITS keeps the promises: killed in a save, killed in a step, asked to stop, it ends the same."""

from __future__ import annotations

import pytest

from tests.core.run.same_command import run_cases
from tests.gpt_sovits.gpt_sets import write_set
from tests.gpt_sovits.sovits_rows import write_rows

FAULTS = "kill@save=8,kill@step=3,term@step=4"
"""Inside the second save, whose first file is the seventh or the sixth; before the third save; and a signal."""


COMMON = "--trainer.accelerator cpu --trainer.max_steps 5 --checkpoint.every_n_steps 1 --trainer.logger false"


def check(stage, words, folder):
    words = ["fit", "--backend", "gpt_sovits", "--stage", stage, *words, *COMMON.split()]
    case = run_cases([{"name": stage, "words": words, "faults": FAULTS}], folder)[stage]
    assert case["codes"] == [0, -9, -9, 75, 0], case["log"]
    assert case["same"], "weights, optimisers, schedules and counters must be those of a run without faults"
    assert not case["left"]


@pytest.mark.parametrize("stage", ["gpt", "dpo"])
@pytest.mark.slow
def test_the_text_stages_end_as_if_nothing_had_happened(stage, tmp_path):
    data = ["--data.path", write_set(tmp_path / "gpt.parquet", 24), "--data.max_tokens", "300"]
    check(stage, [*data, "--trainer.accumulate_grad_batches", "2"], tmp_path / "runs")


@pytest.mark.parametrize(("stage", "version"), [("sovits", "v2")])
@pytest.mark.slow
def test_the_sound_stages_end_as_if_nothing_had_happened(stage, version, tmp_path):
    data = ["--data.path", write_rows(tmp_path / "rows", count=5), "--data.batch_size", "2"]
    check(stage, [*data, "--model.version", version], tmp_path / "runs")
