"""Several processes through the real command line: launched with all its words, one writer, one report, one error."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tts_train.errors import DiskError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2000)]

WORDS = "fit --backend toy --trainer.accelerator cpu --trainer.devices 2 --data.batch_size 1 --json"


def fit(run, *words, **settings):
    command = [sys.executable, "-m", "tts_train", *WORDS.split(), "--run_dir", str(run), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, **settings)


def test_two_processes_are_launched_and_continue_under_another_strategy(tmp_path):
    steps = {"ddp": "4", "fsdp": "8"}
    for strategy, step in steps.items():
        words = ["--trainer.strategy", strategy, "--trainer.max_steps", step, "--fsdp.checkpoint", "sharded"]
        done = fit(tmp_path / "run", *words)
        assert done.returncode == 0, done.stderr
        (told,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
        assert json.loads(told)["step"] == int(step)
    assert "trainer.strategy: 'ddp' -> 'fsdp'" in done.stderr
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["continued_from"] == 4
    assert record["exit_reason"] == "finished"
    newest = (tmp_path / "run" / "checkpoints" / "last").resolve()
    assert newest.name == "step-000008"
    assert (newest / "model-00002-of-00002.safetensors").is_file()


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))


def test_a_disk_that_refuses_ends_all_processes(tmp_path):
    done = fit(tmp_path / "run", "--trainer.strategy", "ddp", "--trainer.max_steps", "4", preexec_fn=small_files)
    assert done.returncode == DiskError.exit_code, done.stderr
    assert "could not be written: [Errno 27] File too large" in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["exit_code"] == DiskError.exit_code


@pytest.mark.parametrize(
    ("failing", "launcher"), [("0", []), ("1", ["-m", "torch.distributed.run", "--nproc-per-node=2"])]
)
def test_a_program_of_which_one_process_fails_leaves_none_waiting(failing, launcher, tmp_path):
    words = [str(Path(__file__).parent / "training" / "alone_case.py"), failing, str(tmp_path / "pid"), "run"]
    command = [sys.executable, *launcher, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert "ValueError: alone" in done.stderr or "after alone" in done.stdout, done.stderr
    if failing == "0":  # started by Lightning: the program goes on without the other process
        assert (done.returncode, done.stdout) == (0, "0 goes on after alone; the other is gone\n"), done.stderr
    else:  # started by torchrun, which ends all when one ends with an error
        assert done.returncode == 1
        assert "1 goes on" not in done.stdout
