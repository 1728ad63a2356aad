"""The promises through the command line, with the toy: faults in a row, and a data worker that dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tests.core.run.same_command import run_cases
from tts_train.run.directory import RunDirectory

COMMON = "--backend toy --trainer.accelerator cpu --checkpoint.every_n_steps 1 --trainer.logger false"


@pytest.mark.slow
def test_the_same_command_ends_as_if_nothing_had_happened(tmp_path):
    words = ["fit", *COMMON.split(), "--trainer.max_steps", "7"]
    # A checkpoint has six files: the first kill is inside the second save.
    faults = "kill@save=8,kill@step=3,kill@step=5,term@step=6"
    case = run_cases([{"name": "toy", "words": words, "faults": faults}], tmp_path)["toy"]
    assert case["codes"] == [0, -9, -9, -9, 75, 0], case["log"]
    assert case["same"], "weights, optimisers, schedules and counters must be those of a run without faults"
    assert not case["left"]


@pytest.mark.slow
def test_a_data_worker_that_dies_is_told_of_and_the_same_command_continues(tmp_path):
    words = [sys.executable, "-m", "tts_train", "fit", *COMMON.split(), "--data.num_workers", "1", "--run_dir"]
    words += [str(tmp_path), "--trainer.max_steps"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*words, "100000"], stderr=subprocess.PIPE, text=True, env=environment)
    run = RunDirectory(tmp_path)
    while not (run.steps() and (workers := _children(process.pid))):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    os.kill(workers[0], 9)
    _, said = process.communicate()
    assert process.returncode == 70
    assert said.splitlines()[-1].startswith("tts-train: A process that loads data was killed")
    assert "Traceback" not in said
    step = run.steps()[-1]
    done = subprocess.run([*words, str(step + 3)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(run.record.read_text())["continued_from"] == step


def _children(process: int) -> list[int]:
    with open(f"/proc/{process}/task/{process}/children", encoding="ascii") as file:  # noqa: PTH123
        return [int(number) for number in file.read().split()]
