"""Going on from a checkpoint of upstream's training: weights, and with them ScaledAdam and its rate."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from tests.gpt_sovits.file_samples import save
from tests.gpt_sovits.gpt_sets import fit, trainer_for, write_set
from tts_train.errors import ConfigError
from tts_train_gpt_sovits.released import s1_config, write_s1
from tts_train_gpt_sovits.released.gpt_names import config_to_upstream, to_upstream
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.stages.gpt.module import GptModule, ScaledAdamOptions
from tts_train_gpt_sovits.stages.gpt.optimizer import ScaledAdam
from tts_train_gpt_sovits.starts.gpt import TinyGptOptions, load_base


def trained(steps, first=0, state=None):
    """A small network and ScaledAdam after some steps on made-up gradients."""
    network = load_base("tiny")
    optimizer = ScaledAdam(network.parameters(), lr=0.01)
    if state is not None:
        network.load_state_dict(state[0])
        optimizer.load_state_dict(state[1])
    for step in range(first, first + steps):
        optimizer.param_groups[0]["lr"] = 0.01 if step == 0 else 0.002
        give_gradients(network, step)
        optimizer.step()
    return network, optimizer


def give_gradients(network, step):
    chance = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        parameter.grad = parameter.detach() + 0.1 * torch.randn(parameter.shape, generator=chance)


@pytest.fixture
def checkpoint(tmp_path):
    network, optimizer = trained(6)
    config = s1_config(config_to_upstream(network.config))
    content = {
        "epoch": 1,
        "global_step": 6,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": to_upstream(network.state_dict()),
        "loops": {},
        "callbacks": {},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"_current_step": 6, "lr": 0.002, "_last_lr": [0.002]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"config": config, "output_dir": Path("/logs/voice"), "is_train": True},
    }
    return str(save(tmp_path / "epoch=1-step=6.ckpt", content))


def test_it_goes_on_as_if_it_had_not_stopped(checkpoint, tmp_path):
    module = GptModule(init_from=checkpoint, continue_optimizer=True)
    module.configure_model()
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.002)
    for step in range(6, 10):
        give_gradients(module.network, step)
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.002)
    whole, _ = trained(10)
    for ours, theirs in zip(module.network.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_its_weights_alone_start_anew(checkpoint, tmp_path):
    module = GptModule(init_from=checkpoint)
    module.configure_model()
    wanted, _ = trained(6)
    assert all(torch.equal(a, b) for a, b in zip(module.network.parameters(), wanted.parameters(), strict=True))
    made = module.configure_optimizers()
    assert made["optimizer"].param_groups[0]["lr"] == 0.01
    assert not made["optimizer"].state


def test_it_trains_from_there(checkpoint, tmp_path):
    data = GptData(write_set(tmp_path / "rows.parquet"), max_tokens=300)
    trainer = fit(GptModule(init_from=checkpoint, continue_optimizer=True), data, tmp_path, 3)
    steps = {state["step"] for state in trainer.optimizers[0].state.values()}
    assert steps == {9}


def test_what_holds_no_optimiser_cannot_be_continued(tmp_path):
    network = load_base("tiny")
    path = tmp_path / "voice.ckpt"
    write_s1(path, to_upstream(network.state_dict()), config=s1_config(config_to_upstream(network.config)), info="x")
    for source in (str(path), "tiny"):
        module = GptModule(init_from=source, continue_optimizer=True)
        module.configure_model()
        with pytest.raises(ConfigError, match="continue_optimizer"):
            module.configure_optimizers()
    for options in ({"method": "lora"}, {"optimizer_kind": "standard"}):
        with pytest.raises(ConfigError, match="continue_optimizer"):
            GptModule(continue_optimizer=True, **options)


@pytest.mark.parametrize(("version", "rows", "good"), [("v1", 512, True), ("v1", 732, False), ("v2Pro", 512, False)])
def test_data_of_another_phoneme_table_are_refused(tmp_path, version, rows, good):
    data = GptData(write_set(tmp_path / "rows.parquet"), max_tokens=300)
    data.setup("fit")
    data.version = version
    module = GptModule(tiny=TinyGptOptions(phonemes=rows))
    if good:
        trainer_for(tmp_path, 1).fit(module, data)
        return
    with pytest.raises(ConfigError, match=version):
        trainer_for(tmp_path, 1).fit(module, data)


def test_more_accumulation_than_batches_is_said(tmp_path, caplog):
    data = GptData(write_set(tmp_path / "rows.parquet"), max_tokens=300)
    with caplog.at_level(logging.WARNING):
        trainer = trainer_for(tmp_path, 2, accumulate_grad_batches=64)
        trainer.fit(GptModule(), data)
    assert "one optimiser step" in caplog.text
    assert trainer.global_step == 2


def test_the_rate_that_upstream_hides_can_be_set(tmp_path):
    data = GptData(write_set(tmp_path / "rows.parquet"), max_tokens=300)
    module = GptModule(scaled_adam=ScaledAdamOptions(lr=0.02, later_lr=0.001))
    assert fit(module, data, tmp_path, 2).optimizers[0].param_groups[0]["lr"] == pytest.approx(0.001)
    with pytest.raises(ConfigError, match="later_lr"):
        ScaledAdamOptions(later_lr=0.0)
