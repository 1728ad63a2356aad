"""Half precision where optimisers are fused: the scale moves once a batch, overflows are left out and counted."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision

from tests.core.run.toy import digest, run
from tests.gpt_sovits.sovits_rows import write_rows
from tests.host_reads import HostReads
from tts_train.checkpoints.folder_io import load_state
from tts_train.run.directory import RunDirectory
from tts_train_gpt_sovits.stages.sovits.cfm_module import CfmModule
from tts_train_gpt_sovits.stages.sovits.data import SovitsData
from tts_train_gpt_sovits.stages.sovits.module import SovitsModule
from tts_train_gpt_sovits.stages.sovits.optimizer import BatchScaler, adamw


class Scales(Callback):
    """Notes the scale after each batch."""

    def __init__(self):
        self.scales = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.scales.append(trainer.precision_plugin.scaler.get_scale())


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"))


def fit(path, rows, steps, build=SovitsModule):
    """Train from a scale at which everything overflows, down to one at which nothing does, and up again."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, backoff_factor=2.0**-36, growth_interval=2)
    half, scales = MixedPrecision("16-mixed", "cpu", scaler=scaler), Scales()
    data = SovitsData(rows, batch_size=2, val_share=0.0, seed=3)
    module = run(
        path,
        module=build(),
        data=data,
        max_epochs=-1,
        max_steps=steps,
        gradient_clip_val=None,
        plugins=[half],
        extra=[scales],
        monitor=None,
        keep=5,  # the room that so many checkpoints need is asked for when a run begins
    )
    return module, scales


@pytest.fixture(scope="module")
def whole(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    return path, *fit(path, rows, 4)


def test_the_scale_falls_and_grows_once_a_batch(whole):
    _, module, scales = whole
    assert scales.scales == [16.0, 16.0, 32.0, 32.0]
    assert module.trainer.callback_metrics["train/loss_scale"] == 32.0


def test_steps_that_overflow_are_left_out_and_counted(whole):
    path, module, _ = whole
    steps = RunDirectory(path)
    saved = [load_state(steps.step_path(step), "optimizer_states")["optimizer_states"] for step in (1, 4)]
    assert [[float(next(iter(one["state"].values()))["step"]) for one in states] for states in saved] == [
        [0.0, 0.0],
        [3.0, 3.0],
    ]
    assert module.trainer.callback_metrics["train/skipped_steps"] == 2.0  # the critics' and the generator's
    weights = [load_state(steps.step_path(step), "state_dict")["state_dict"] for step in (1, 2)]
    fresh = SovitsModule()
    fresh.configure_model()
    start = fresh.state_dict()
    assert all(torch.equal(weights[0][name], start[name]) for name in start)
    assert any(not torch.equal(weights[1][name], start[name]) for name in start)


@pytest.mark.slow
def test_a_run_goes_on_with_the_scale_and_bit_for_bit(whole, rows, tmp_path):
    path, module, scales = whole
    fit(tmp_path, rows, 2)
    again, later = fit(tmp_path, rows, 4)
    assert later.scales == scales.scales[2:]
    for step in (2, 3, 4):
        assert digest(RunDirectory(tmp_path).step_path(step)) == digest(RunDirectory(path).step_path(step)), step
    plugins = [one.trainer.precision_plugin for one in (module, again)]
    assert plugins[0].state_dict() == plugins[1].state_dict()
    assert plugins[0].state_dict()["skipped_steps"] == 2.0


@pytest.mark.parametrize(("ours", "count"), [(True, 0), (False, 1)])
def test_the_host_asks_for_no_number(ours, count):
    weight = torch.nn.Parameter(torch.ones(2))
    scaler = torch.amp.GradScaler("cpu")
    scaler = BatchScaler(scaler, optimizers=1) if ours else scaler
    optimizer = adamw([weight], lr=1.0)
    for _ in range(2):  # states begin in the first step
        optimizer.zero_grad()
        with HostReads() as reads:
            reads.mark([weight, *(value for state in optimizer.state.values() for value in state.values())])
            scaler.scale(weight.sum()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
    assert len(reads.reads) == count, "\n".join(map(str, reads.reads))


@pytest.mark.slow
def test_flow_matching_has_it_too(rows, tmp_path):
    module, scales = fit(tmp_path, rows, 3, build=CfmModule)
    assert scales.scales == [16.0, 16.0, 32.0]
    assert module.trainer.callback_metrics["train/skipped_steps"] == 1.0


def test_an_optimiser_that_is_not_fused_is_stepped_as_torch_does():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    scaler = BatchScaler(torch.amp.GradScaler("cpu", init_scale=4.0), optimizers=2)
    optimizers = [torch.optim.SGD([weights[0]], lr=1.0), adamw([weights[1]], lr=1.0)]
    for weight in weights:
        scaler.scale(weight.sum()).backward()
    weights[0].grad[0] = torch.inf
    for optimizer in optimizers:
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    assert torch.equal(weights[0], torch.ones(2))
    assert not torch.equal(weights[1], torch.ones(2))
    assert scaler.get_scale() == 2.0
    assert optimizers[1].found_inf is None


def test_a_guards_flag_leaves_a_step_out():
    weight = torch.nn.Parameter(torch.ones(2))
    scaler = BatchScaler(torch.amp.GradScaler("cpu"), optimizers=1)
    optimizer = adamw([weight], lr=1.0)
    for flag in (1.0, 0.0):
        optimizer.zero_grad()
        scaler.scale(weight.sum()).backward()
        optimizer.found_inf = torch.tensor(flag)
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(weight, torch.ones(2)) is bool(flag)
    assert scaler.state_dict()["skipped_steps"] == 0.0  # the gradients were finite
