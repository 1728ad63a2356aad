"""Kills, signals, full disks, damaged files, NaN and a second run: the same command continues, or says why not."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from tests.core.run.test_continuation import last_of
from tests.core.run.toy import Toy, digest, run
from tts_train.checkpoints.folder_io import MANIFEST, verify
from tts_train.errors import ConfigError, DiskError, Interrupted, NumericError, RunLockedError
from tts_train.run.directory import RunDirectory
from tts_train.training.survive.stopping import exit_code


def fork(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked child, which exits with the exit code that the command line would give."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        work()
        status = 0
    except BaseException as error:  # noqa: BLE001 - the child ends here, whatever it was
        status = exit_code(error)
        if status == 70:
            traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finish(path: Path, **settings) -> int:
    return wait(fork(lambda: run(path, **settings)))


def nothing_left_over(path: Path) -> bool:
    return not list(path.rglob(".tmp-*"))


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("straight")
    assert finish(path) == 0
    return digest(last_of(path))


def kill_trials(folder: Path, straight: str, trials: int, *, seed: int) -> None:
    chance = random.Random(seed)
    started = time.monotonic()
    assert finish(folder / "measure") == 0
    duration = time.monotonic() - started
    survived = 0
    for trial in range(trials):
        path = folder / f"trial-{trial}"
        child = fork(lambda path=path: run(path))
        time.sleep(chance.uniform(0.05, duration))
        os.kill(child, signal.SIGKILL)
        wait(child)
        for step in RunDirectory(path).steps():
            verify(RunDirectory(path).step_path(step))
        assert finish(path) == 0
        assert digest(last_of(path)) == straight
        assert nothing_left_over(path)
        survived += 1
    assert survived == trials


@pytest.mark.slow
def test_kill_at_random_times(tmp_path, straight):
    kill_trials(tmp_path, straight, 12, seed=7)


@pytest.mark.slow
def test_kill_at_random_times_often(tmp_path, straight):
    kill_trials(tmp_path, straight, 28, seed=8)


@pytest.mark.parametrize("file", range(1, 16))
@pytest.mark.slow
def test_kill_inside_a_save(file, tmp_path, straight):
    # Six per checkpoint: weights, optimiser, the rest's tensors, state, manifest, and the renamed directory.
    assert finish(tmp_path, inject=f"kill@save={file}") == -signal.SIGKILL
    for step in RunDirectory(tmp_path).steps():
        verify(RunDirectory(tmp_path).step_path(step))
    assert finish(tmp_path, inject=f"kill@save={file}") == 0
    assert digest(last_of(tmp_path)) == straight
    assert nothing_left_over(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", MANIFEST])
def test_damaged_newest_checkpoint_costs_one_step(name, tmp_path, straight):
    assert finish(tmp_path, inject="kill@step=9") == -signal.SIGKILL
    newest = last_of(tmp_path)
    assert newest.name == "step-000008"
    data = bytearray((newest / name).read_bytes())
    (newest / name).write_bytes(data[: len(data) // 2])
    assert finish(tmp_path) == 0
    assert (tmp_path / "checkpoints" / "step-000008.corrupt").is_dir()
    assert json.loads((tmp_path / "run.json").read_text())["continued_from"] == 7
    assert digest(last_of(tmp_path)) == straight


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_save_at_the_step_and_exit_75(number, tmp_path, straight):
    class Signalled(Callback):
        def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
            if trainer.global_step == 5:
                os.kill(os.getpid(), number)

    child = fork(lambda: run(tmp_path, every=1000, monitor=None, extra=[Signalled()]))
    assert wait(child) == 75
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["exit_code"] == 75
    assert record["exit_reason"].startswith(f"interrupted: Stopped by {number.name}; saved at step 6")
    assert last_saved(tmp_path) == [6]
    assert finish(tmp_path, every=1000, monitor=None) == 0
    assert weights(tmp_path) == straight


def last_saved(path: Path) -> list[int]:
    return RunDirectory(path).steps()


def weights(path: Path) -> str:
    return digest(last_of(path))


def test_sigterm_at_a_known_step_saves_that_step(tmp_path, straight):
    parts = Toy()
    with pytest.raises(Interrupted, match="SIGTERM; saved at step 7"):
        run(tmp_path, every=1000, module=parts, inject="term@step=7", monitor=None)
    assert RunDirectory(tmp_path).steps() == [7]
    again = run(tmp_path, every=1000, inject="term@step=7", monitor=None)
    assert [seen[2] for seen in parts.seen + again.seen] == list(range(20))
    assert digest(last_of(tmp_path)) == straight


def test_sigterm_waits_for_accumulated_batches(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path, every=1000, inject="term@step=4", monitor=None, accumulate_grad_batches=2)
    assert RunDirectory(tmp_path).steps() == [4]


def test_second_signal_stops_at_once(tmp_path):
    child = fork(lambda: run(tmp_path, module=Slow(), every=1000))
    while not (tmp_path / "slow").exists():
        time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    assert wait(child) == 75
    assert RunDirectory(tmp_path).steps() == []
    assert "at once" in json.loads((tmp_path / "run.json").read_text())["exit_reason"]


class Slow(Toy):
    def training_step(self, batch, batch_idx):
        Path(self.trainer.default_root_dir, "slow").touch()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.05)
        return super().training_step(batch, batch_idx)


def test_two_runs_in_one_directory(tmp_path, straight):
    first = fork(lambda: run(tmp_path, module=Slow()))
    while not (tmp_path / "slow").exists():
        time.sleep(0.01)
    with pytest.raises(RunLockedError, match=rf"process {first} on .*--run_dir") as caught:
        run(tmp_path)
    assert exit_code(caught.value) == 6
    os.kill(first, signal.SIGKILL)
    wait(first)
    assert finish(tmp_path) == 0
    assert digest(last_of(tmp_path)) == straight


def test_disk_that_fills_up_keeps_the_last_good_checkpoint(tmp_path, straight):
    assert finish(tmp_path, inject="kill@step=4") == -signal.SIGKILL

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500))
        run(tmp_path)

    assert wait(fork(limited)) == 5
    assert RunDirectory(tmp_path).newest_valid() == RunDirectory(tmp_path).step_path(3)
    assert nothing_left_over(tmp_path)
    assert finish(tmp_path) == 0
    assert digest(last_of(tmp_path)) == straight


def test_disk_too_small_is_refused_before_the_first_step(tmp_path):
    class Huge(Toy):
        def __init__(self):
            super().__init__()
            self.register_buffer("big", torch.zeros(1).expand(1 << 50))  # takes no memory, would take 4 PB on disk

    module = Huge()
    with pytest.raises(DiskError, match="Room for 102 checkpoints needs"):
        run(tmp_path, module=module)
    assert module.seen == []


def test_a_fused_optimiser_skips_on_the_device_when_told():
    # What FiniteGuard relies on where it does not wait for the device.
    layer = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    before = layer.weight.detach().clone()
    for flag in (1.0, 0.0):
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.found_inf = torch.tensor(flag)
        optimizer.step()
        assert torch.equal(layer.weight, before) == bool(flag)
    assert optimizer.state[layer.weight]["step"].item() == 1


def test_one_nan_is_skipped_and_counted(tmp_path, caplog):
    straight = run(tmp_path / "a", module=Toy(schedule="fixed"))
    hurt = run(tmp_path / "b", module=Toy(schedule="fixed"), inject="nan@step=6")
    assert hurt.seen[:6] == straight.seen[:6]
    assert len(hurt.seen) == 20
    assert "Step 5 was skipped" in caplog.text
    assert ", ".join(hurt.seen[5][3]) in caplog.text
    for _, parameter in hurt.named_parameters():
        assert torch.isfinite(parameter).all()
    before = RunDirectory(tmp_path / "b").step_path(5) / "model.safetensors"
    after = RunDirectory(tmp_path / "b").step_path(6) / "model.safetensors"
    assert before.read_bytes() == after.read_bytes()


def test_three_nans_in_a_row_end_the_run_with_the_utterances(tmp_path):
    module = Toy()
    with pytest.raises(NumericError, match="3 steps in a row") as caught:
        run(tmp_path, module=module, inject="nan@step=6,nan@step=7,nan@step=8")
    assert exit_code(caught.value) == 4
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    named = [tuple(step["batches"][0]["ids"]) for step in report["in_a_row"]]
    assert named == [seen[3] for seen in module.seen[5:8]]
    assert json.loads((tmp_path / "run.json").read_text())["exit_code"] == 4
    assert RunDirectory(tmp_path).newest_valid() == RunDirectory(tmp_path).step_path(7)


def test_nan_weights_are_never_saved(tmp_path):
    class Poisoned(Toy):
        def on_train_batch_start(self, batch, batch_idx):
            if self.global_step == 6:
                with torch.no_grad():
                    self.net[0].weight[0, 0] = float("inf")

    with pytest.raises(NumericError, match=r"net\.0\.weight is not finite"):
        run(tmp_path, module=Poisoned())
    assert RunDirectory(tmp_path).newest_valid() == RunDirectory(tmp_path).step_path(6)


@pytest.mark.parametrize("text", ["kill", "kill@step", "kill@step=0", "nan@save=2", "boom@step=1", "kill@step=1;"])
def test_faults_that_are_none_are_refused(text, tmp_path):
    with pytest.raises(ConfigError, match=r"Choose kill@step=N"):
        run(tmp_path, inject=text)
