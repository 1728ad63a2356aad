"""Steps inside backward in a real run: exact continuation, and the guard against what is not finite."""

from __future__ import annotations

import pytest
import torch

from tests.core.run.toy import Toy, digest, run
from tts_train.errors import Interrupted, NumericError
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.optim.build import build_optimizer
from tts_train.optim.schedule import build_schedule
from tts_train.run.directory import RunDirectory
from tts_train.training.survive import finite as guard

SMALL = {
    "adamw": OptimizerOptions(lr=0.05, in_backward=True),
    "bfloat16": OptimizerOptions(lr=0.05, in_backward=True, rounding="stochastic"),
    "8bit": OptimizerOptions("adamw8bit", lr=0.05, in_backward=True, rounding="stochastic", offload=True),
    "master": OptimizerOptions(lr=0.05, rounding="master", offload=True),
}


class Small(Toy):
    """The toy in bfloat16 and wide enough for 8-bit states."""

    def __init__(self, options, *, bad_steps=(), bad_gradient=None) -> None:
        super().__init__()
        self.net[0], self.net[-1] = torch.nn.Linear(4, 1100), torch.nn.Linear(1100, 4)
        if options.rounding != "nearest":
            self.net.to(torch.bfloat16)
        self.options, self.bad_steps, self.bad_gradient = options, bad_steps, bad_gradient

    def training_step(self, batch, batch_idx):
        type_ = self.net[0].weight.dtype
        loss = (self.net(batch["x"].to(type_)) - batch["x"].roll(1, 1)).float().square().mean()
        self.seen.append((self.global_step, loss.item(), self.optimizers().param_groups[0]["lr"]))
        if self.global_step in self.bad_steps and self.bad_gradient is None:
            return loss * float("nan")
        return loss

    def on_before_backward(self, loss):
        if self.global_step in self.bad_steps and self.bad_gradient is not None:
            handle = self.net[self.bad_gradient].weight.register_hook(
                lambda grad: (handle.remove(), grad * float("inf"))[1]
            )

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", batch["x"].mean(), batch_size=2)

    def configure_optimizers(self):
        optimizer = build_optimizer(self, self.options)
        schedule = build_schedule(optimizer, ScheduleOptions(), self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(path, module, **settings):
    return run(path, module=module, gradient_clip_val=None, max_epochs=2, **settings)


@pytest.mark.parametrize("kind", SMALL)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, kind):
    whole = train(tmp_path / "whole", Small(SMALL[kind]))
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", Small(SMALL[kind]), inject="term@step=7")
    rest = train(tmp_path / "cut", Small(SMALL[kind]))
    assert rest.seen == whole.seen[-len(rest.seen) :]
    assert 0 < len(rest.seen) < len(whole.seen)
    assert digest(RunDirectory(tmp_path / "whole").step_path(10)) == digest(
        RunDirectory(tmp_path / "cut").step_path(10)
    )


def test_a_loss_that_is_not_finite_is_stepped_over(tmp_path):
    module = Small(SMALL["adamw"], bad_steps=(3, 4))
    train(tmp_path, module)
    assert len(module.seen) == 10
    # Neither weights nor states moved: the same rows would give the same loss, and the run stays finite.
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    counts = {int(state["step"]) for state in module.optimizers().optimizer.state_dict()["state"].values()}
    assert counts == {8}


@pytest.mark.parametrize("bad_gradient", [None, 0, -1])
def test_three_in_a_row_end_the_run_and_name_their_rows(tmp_path, bad_gradient):
    module = Small(SMALL["adamw"], bad_steps=range(4, 10), bad_gradient=bad_gradient)
    with pytest.raises(NumericError, match=r"3 steps in a row.*In it were: \d+"):
        train(tmp_path, module)
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert RunDirectory(tmp_path).newest_valid() is not None


PLAIN = OptimizerOptions(lr=0.05)


def on_device(monkeypatch):
    """Take the way of a card: the host is not to read what has just been computed."""
    monkeypatch.setattr(guard, "at_once", lambda flag: False)


@pytest.mark.parametrize("bad_gradient", [None, 0])
def test_a_step_is_skipped_on_the_device_as_by_the_host(tmp_path, monkeypatch, caplog, bad_gradient):
    modules, said = [], []
    for way in ("host", "device"):
        caplog.clear()
        if way == "device":
            on_device(monkeypatch)
        modules.append(Small(PLAIN, bad_steps=(2, 3, 9), bad_gradient=bad_gradient))
        train(tmp_path / way, modules[-1])
        said.append([line.getMessage() for line in caplog.records if "was skipped" in line.getMessage()])
    assert modules[0].seen == modules[1].seen
    assert all(torch.equal(a, b) for a, b in zip(modules[0].parameters(), modules[1].parameters(), strict=True))
    steps = [[int(state["step"]) for state in one.optimizers().optimizer.state.values()] for one in modules]
    assert steps == [[7] * 4] * 2
    assert said[0] == said[1]
    assert [line.split()[1] for line in said[0]] == ["2", "3", "9"]
    # The last answer is in the last checkpoint too.
    folders = [RunDirectory(tmp_path / way).step_path(10) for way in ("host", "device")]
    assert digest(folders[0]) == digest(folders[1])


def test_three_in_a_row_on_the_device_name_their_steps(tmp_path, monkeypatch):
    on_device(monkeypatch)
    module = Small(PLAIN, bad_steps=range(4, 10))
    with pytest.raises(NumericError, match=r"3 steps in a row.*the last one step 6\..*In it were: \d+"):
        train(tmp_path, module)
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())
    assert RunDirectory(tmp_path).newest_valid() is not None


def test_answers_are_read_one_step_later_and_for_each_optimizer(monkeypatch):
    on_device(monkeypatch)
    nets = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    optimizers = [torch.optim.AdamW(net.parameters(), fused=True) for net in nets]
    judge = guard.FiniteGuard()
    read = []
    monkeypatch.setattr(guard, "is_set", lambda flag: (read.append(float(flag)), bool(flag))[1])

    class Trainer:
        precision_plugin, world_size, global_step = None, 1, 0

    Trainer.optimizers = optimizers
    for step, bad in enumerate((False, True, False)):
        judge.on_train_batch_start(type("T", (), {"current_epoch": 0, "datamodule": None}), None, None, step)
        for which, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
            before, moved = net.weight.detach().clone(), not (bad and which)
            loss = net(torch.ones(1, 2)).sum() * (1.0 if moved else float("nan"))
            judge.on_before_backward(Trainer, None, loss)
            loss.backward()
            judge.on_before_optimizer_step(Trainer, None, optimizer)
            optimizer.step()
            optimizer.zero_grad()
            assert torch.equal(net.weight, before) != moved
            assert len(read) == (0 if step == 0 else 2 * step - 1 + which)  # those of the step before
    assert judge.skipped == 1
    judge.on_train_end(Trainer, None)
    assert judge.skipped == 1
    assert len(read) == 6
