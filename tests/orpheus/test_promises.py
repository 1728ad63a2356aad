"""Orpheus keeps the promises, by each method: killed in a save, killed in a step, asked to stop, it ends the same."""

from __future__ import annotations

import pytest

from tests.core.run.same_command import run_cases
from tests.orpheus.test_data import write_set


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.slow
def test_the_same_command_ends_as_if_nothing_had_happened(method, tmp_path):
    write_set(tmp_path / "set", [3 + n % 8 for n in range(24)])
    common = "--trainer.accelerator cpu --trainer.max_steps 5 --checkpoint.every_n_steps 1 --trainer.logger false"
    words = ["fit", "--backend", "orpheus", "--model.init_from", "tiny", "--data.path", str(tmp_path / "set")]
    words += ["--data.max_tokens", "256", "--model.method", method, *common.split()]
    faults = "kill@save=8,kill@step=3,term@step=4"
    case = run_cases([{"name": method, "words": words, "faults": faults}], tmp_path / "runs")[method]
    assert case["codes"] == [0, -9, -9, 75, 0], case["log"]
    assert case["same"], "weights, optimisers, schedules and counters must be those of a run without faults"
    assert not case["left"]
