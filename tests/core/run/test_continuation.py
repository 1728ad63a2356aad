"""A run that is stopped anywhere and continued is bit for bit the run that was never stopped."""

from __future__ import annotations

import os
import shutil
import signal
import traceback
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping

from tests.core.run.toy import Toy, ToyData, digest, run
from tts_train.checkpoints.folder_io import load_state
from tts_train.errors import Interrupted
from tts_train.run.directory import RunDirectory
from tts_train.training.survive.continuation import seed_everything


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def only(source: Path, step: int, target: Path) -> Path:
    """Make a run directory as it is if the run was killed right after the checkpoint of ``step``."""
    name = RunDirectory(source).step_path(step).name
    shutil.copytree(source / "checkpoints" / name, target / "checkpoints" / name)
    return target


def last_of(path: Path) -> Path:
    found = RunDirectory(path)
    return found.step_path(found.steps()[-1])


SETTINGS = {
    "validation each epoch": {},
    "validation every 2 batches": {"trainer": {"val_check_interval": 2}},
    "validation every 0.4 epochs": {"trainer": {"val_check_interval": 0.4}},
    "validation every 3 batches across epochs": {"trainer": {"val_check_interval": 3, "check_val_every_n_epoch": None}},
    "validation every 2 epochs": {"trainer": {"check_val_every_n_epoch": 2}},
    "no validation": {"trainer": {"limit_val_batches": 0}},
    "accumulation": {"trainer": {"accumulate_grad_batches": 2}},
    "accumulation and validation between": {"trainer": {"accumulate_grad_batches": 2, "val_check_interval": 3}},
    "by steps": {"trainer": {"max_steps": 18, "max_epochs": -1}, "module": {"schedule": "fixed"}},
    "cosine": {"module": {"schedule": "cosine"}},
    "plateau": {"module": {"schedule": "plateau"}},
    "no schedule": {"module": {"schedule": "none"}},
    "fewer batches": {"trainer": {"limit_train_batches": 4}},
    "epochs of other lengths": {"data": {"uneven": True}},
}


QUICK = ("validation every 2 batches", "accumulation and validation between")
"""Continued from every step in every test run; the others from some steps, and from the rest among the slow tests."""


def share_of(name: str) -> int:
    """Return every how many-th step of a setting is one of those that are not slow."""
    return 5 if "epochs" in name else 4


def check(setting: dict, tmp_path: Path, *, share: int = 1, others: bool = False) -> None:
    trainer = setting.get("trainer", {})

    def go(path: Path) -> Toy:
        return run(path, module=Toy(**setting.get("module", {})), data=ToyData(**setting.get("data", {})), **trainer)

    straight = go(tmp_path / "straight")
    steps = RunDirectory(tmp_path / "straight").steps()
    assert len(steps) >= 12
    final = last_of(tmp_path / "straight")
    expected = load_state(final)
    some = steps[share - 1 :: share]
    for step in [step for step in steps if step not in some] if others else some:
        path = only(tmp_path / "straight", step, tmp_path / f"from-{step}")
        again = go(path)
        assert again.seen == [seen for seen in straight.seen if seen[2] >= step], step
        assert again.validated == straight.validated[len(straight.validated) - len(again.validated) :], step
        assert digest(last_of(path)) == digest(final), step
        assert same(load_state(last_of(path)), expected), step
        shutil.rmtree(path)


@pytest.mark.parametrize("name", QUICK)
def test_continuing_from_every_step_equals_never_stopping(name, tmp_path):
    check(SETTINGS[name], tmp_path)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in QUICK])
@pytest.mark.slow
def test_continuing_equals_never_stopping_whatever_the_settings(name, tmp_path):
    check(SETTINGS[name], tmp_path, share=share_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in QUICK])
def test_continuing_from_the_other_steps_whatever_the_settings(name, tmp_path):
    check(SETTINGS[name], tmp_path, share=share_of(name), others=True)


@pytest.mark.parametrize("schedule", ["estimated", "fixed"])
def test_data_workers_change_nothing(schedule, tmp_path):
    straight = run(tmp_path / "straight", module=Toy(schedule=schedule), val_check_interval=2)
    path = only(tmp_path / "straight", 7, tmp_path / "again")
    again = run(path, module=Toy(schedule=schedule), data=ToyData(num_workers=2), val_check_interval=2)
    assert again.seen == straight.seen[7:]
    assert digest(last_of(path)) == digest(last_of(tmp_path / "straight"))


@pytest.mark.parametrize("interval", [2, 1.0])
def test_checkpoints_written_after_a_validation_continue_exactly(interval, tmp_path):
    straight = run(tmp_path / "straight", every=1000, val_check_interval=interval)
    steps = RunDirectory(tmp_path / "straight").steps()
    assert len(steps) >= 3
    for step in steps[:-1]:
        path = only(tmp_path / "straight", step, tmp_path / f"from-{step}")
        again = run(path, every=1000, val_check_interval=interval)
        assert again.seen == straight.seen[step:]
        assert again.validated == [v for v in straight.validated if v[0] > step]
        assert digest(last_of(path)) == digest(last_of(tmp_path / "straight"))
        assert same(load_state(last_of(path)), load_state(last_of(tmp_path / "straight")))


def test_early_stopping_counts_on(tmp_path):
    def go(path):
        stopping = EarlyStopping("val/loss", patience=1, min_delta=0.05)
        return run(path, extra=[stopping], max_epochs=8, module=Toy(schedule="fixed")), stopping

    straight, first = go(tmp_path / "straight")
    assert 0 < first.stopped_epoch < 7
    for step in RunDirectory(tmp_path / "straight").steps()[3:-1:3]:
        again, second = go(only(tmp_path / "straight", step, tmp_path / f"from-{step}"))
        assert again.seen == straight.seen[step:]
        assert second.stopped_epoch == first.stopped_epoch
        assert second.wait_count == first.wait_count


def test_more_steps_than_at_first_equal_all_at_once(tmp_path):
    def go(path, steps):
        return run(path, max_steps=steps, max_epochs=-1, module=Toy(schedule="fixed"), val_check_interval=2)

    straight = go(tmp_path / "straight", 13)
    first = go(tmp_path / "parts", 7)
    second = go(tmp_path / "parts", 13)
    assert first.seen + second.seen == straight.seen
    assert digest(last_of(tmp_path / "parts")) == digest(last_of(tmp_path / "straight"))


def test_more_epochs_than_at_first_see_the_same_batches(tmp_path):
    straight = run(tmp_path / "straight", module=Toy(schedule="fixed"))
    first = run(tmp_path / "parts", module=Toy(schedule="fixed"), max_epochs=2)
    second = run(tmp_path / "parts", module=Toy(schedule="fixed"), max_epochs=4)
    assert first.seen + second.seen == straight.seen


class TermInValidation(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if trainer.global_step == self.step and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("step", [2, 5, 9, 20])
def test_stopping_in_a_validation_runs_it_again(step, tmp_path):
    settings = {"every": 1000, "val_check_interval": 1.0 if step in (5, 20) else 2, "monitor": None}
    straight = run(tmp_path / "straight", **settings)
    parts = Toy()
    with pytest.raises(Interrupted, match=f"SIGTERM; saved at step {step}"):
        run(tmp_path / "parts", module=parts, extra=[TermInValidation(step)], **settings)
    again = run(tmp_path / "parts", **settings)
    assert parts.seen + again.seen == straight.seen
    if step < 20:
        kept = [validated for validated in parts.validated if validated[0] < step]
        assert kept + again.validated == straight.validated
        assert digest(last_of(tmp_path / "parts")) == digest(last_of(tmp_path / "straight"))


def test_seeding_a_batch_takes_the_numbers_of_torch_and_not_its_time(monkeypatch):
    torch.manual_seed(2**64 - 7)
    expected = torch.rand(3)

    def format_stack(*_):
        raise AssertionError("torch writes down where it was seeded from, for each kind of device that is not there")

    monkeypatch.setattr(traceback, "format_stack", format_stack)
    seed_everything(2**64 - 7)
    assert torch.equal(torch.rand(3), expected)


class Cudnn(Callback):
    def on_train_batch_start(self, trainer, *_):
        self.seen = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)


def test_convolutions_of_a_card_are_deterministic_while_it_trains(tmp_path):
    assert not torch.backends.cudnn.deterministic
    seen = Cudnn()
    run(tmp_path, extra=[seen], max_steps=1)
    assert seen.seen == (True, False)
    assert not torch.backends.cudnn.deterministic


def test_whoever_wants_the_fastest_convolutions_gets_them(tmp_path, caplog):
    seen = Cudnn()
    try:
        with caplog.at_level("INFO", "tts_train"):
            run(tmp_path, extra=[seen], max_steps=1, benchmark=True)
    finally:
        torch.backends.cudnn.benchmark = False
    assert seen.seen == (False, True)
    assert "--trainer.benchmark true" in caplog.text
