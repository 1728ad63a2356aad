"""Steps inside backward in a real run: exact continuation, and the guard against what is not finite."""

from __future__ import annotations

import pytest
import torch

from tests.core.run.toy import Toy, digest, run
from tts_train.errors import Interrupted, NumericError
from tts_train.optim import OptimizerOptions, ScheduleOptions, build_optimizer, build_schedule
from tts_train.run.directory import RunDirectory

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
