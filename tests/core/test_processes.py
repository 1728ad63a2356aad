"""Several processes through the real command line: launched with all its words, one writer, one report."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def test_two_processes_are_launched_and_continue(tmp_path):
    words = "fit --backend toy --trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp --data.batch_size 1"
    command = [sys.executable, "-m", "tts_train", *words.split(), "--run_dir", str(tmp_path / "run"), "--json"]
    for steps in ("4", "8"):
        done = subprocess.run([*command, "--trainer.max_steps", steps], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        (told,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
        assert json.loads(told)["step"] == int(steps)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["continued_from"] == 4
    assert record["exit_reason"] == "finished"
