"""Adapters: what is trained and kept, their merge, the reference of dpo, and networks rebuilt from runs."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass

import pytest
import torch

from tests.gpt_sovits.gpt_sets import trainer_for, write_set
from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.errors import ConfigError, DataError
from tts_train.optim import OptimizerOptions
from tts_train.run.checkpoint import RunCard, open_checkpoint
from tts_train.run.directory import RunDirectory
from tts_train.training.survive.checkpoint import CheckpointOptions, PeriodicCheckpoint
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance, pack
from tts_train_gpt_sovits.released import read_s1, s1_config, write_s1
from tts_train_gpt_sovits.released.gpt_names import config_to_upstream, to_upstream
from tts_train_gpt_sovits.stages.gpt.data import GptData
from tts_train_gpt_sovits.stages.gpt.dpo import DpoModule
from tts_train_gpt_sovits.stages.gpt.module import GptModule
from tts_train_gpt_sovits.starts.adapters import (
    GptLoraOptions,
    adapt_gpt,
    adapters_off,
    merged_state,
    trained_names,
)
from tts_train_gpt_sovits.starts.gpt import TinyGptOptions, filled, load_base, load_initial, load_run

LORA = GptLoraOptions(rank=2, alpha=4.0)
QUICK = OptimizerOptions(lr=1e-2)


def moved(lora=LORA):
    """A small network whose adapters do something."""
    network = load_base("tiny")
    adapt_gpt(network, lora)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".lora_B" in name:
                parameter.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))
    return network.eval()


def batch():
    chance = torch.Generator().manual_seed(0)
    rows = []
    for size in (20, 31):
        codes = torch.randint(0, 1024, (size,), generator=chance)
        rows.append(GptUtterance(phonemes=codes[:7] % 700, codes=codes, rejected=codes[:11]))
    return pack(rows)


def run_of(tmp_path, stage, module, data, steps=4):
    """Train as the command does: a run directory with our checkpoints."""
    tmp_path.mkdir()
    folder = RunDirectory(tmp_path)
    names = ("init_from", "method", "tiny", "lora")
    model = {name: getattr(module, name) for name in names}
    model = {name: asdict(value) if is_dataclass(value) else value for name, value in model.items()}
    card = RunCard(backend="gpt_sovits", stage=stage, config={"model": model})
    saver = PeriodicCheckpoint(folder, card, CheckpointOptions(every_n_steps=2))
    trainer = trainer_for(
        tmp_path, steps, callbacks=[saver], plugins=[DirectoryCheckpointIO()], enable_checkpointing=True
    )
    trainer.fit(module, data)
    return folder


@pytest.mark.parametrize("targets", [("qkv", "out", "up", "down"), ("qkv",)])
def test_adapters_start_as_nothing_and_sit_where_asked(targets):
    plain, network = load_base("tiny"), load_base("tiny")
    adapt_gpt(network, GptLoraOptions(rank=2, targets=targets))
    assert len(trained_names(network)) == 2 * 2 * len(targets)
    assert all(".lora_" in name for name in trained_names(network))
    torch.testing.assert_close(network.eval()(batch()).losses, plain.eval()(batch()).losses)


def test_the_merged_network_says_the_same_and_can_be_exported(tmp_path):
    network = moved()
    state = merged_state(network)
    assert list(state) == list(to_upstream(load_base("tiny").state_dict()))
    sizes = config_to_upstream(network.config)
    torch.testing.assert_close(filled(sizes, state).eval()(batch()).losses, network(batch()).losses)
    write_s1(tmp_path / "voice.ckpt", state, config=s1_config(sizes), info="GPT-e1")
    read = read_s1(tmp_path / "voice.ckpt").weights
    torch.testing.assert_close(read["model.h.layers.0.linear1.weight"], state["model.h.layers.0.linear1.weight"].half())


def test_switched_off_it_is_the_base_and_then_itself_again():
    network, plain = moved(), load_base("tiny").eval()
    before = network(batch()).losses
    with torch.no_grad(), adapters_off(network):
        torch.testing.assert_close(network(batch()).losses, plain(batch()).losses)
    assert torch.equal(network(batch()).losses, before)
    assert set(trained_names(network)) == {name for name in network.state_dict() if ".lora_" in name}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_reference_is_the_network_as_it_began(tmp_path, method):
    data = GptData(write_set(tmp_path / "rows.parquet"), max_tokens=300, pairs="stored", val_share=0.2)
    module = DpoModule(reference="start", method=method, lora=LORA, optimizer=QUICK, optimizer_kind="standard")
    trainer = trainer_for(tmp_path, 20)
    trainer.fit(module, data)
    start = load_base("tiny").eval()(batch())
    module.network.train()
    held = module._reference_logps(batch())
    torch.testing.assert_close(held, (start.chosen_logps, start.rejected_logps))
    assert module.network.training
    assert bool(module._frozen) == (method == "full")
    assert trainer.callback_metrics["val/margin"] > 0.5


@pytest.mark.parametrize("stage", ["gpt", "dpo"])
def test_a_run_of_adapters_keeps_them_alone_and_is_rebuilt(tmp_path, stage):
    data = GptData(write_set(tmp_path / "rows.parquet"), max_tokens=300, pairs="made" if stage == "dpo" else "none")
    kind = DpoModule if stage == "dpo" else GptModule
    module = kind(method="lora", lora=LORA, optimizer=QUICK, tiny=TinyGptOptions(layers=1))
    folder = run_of(tmp_path / "run", stage, module, data)
    kept = open_checkpoint(folder.path).weights()
    assert set(kept) == {f"network.{name}" for name in trained_names(module.network)}
    rebuilt = load_run(folder.path).eval()
    torch.testing.assert_close(rebuilt(batch()).losses, module.network.eval()(batch()).losses)
    again = load_initial(str(folder.path), dropout=0.1)
    assert again.config.dropout == 0.1
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_a_whole_run_is_rebuilt_and_a_strange_one_refused(tmp_path):
    data = GptData(write_set(tmp_path / "rows.parquet"), max_tokens=300)
    module = GptModule()
    folder = run_of(tmp_path / "run", "gpt", module, data)
    rebuilt = load_run(folder.path)
    assert all(torch.equal(value, rebuilt.state_dict()[name]) for name, value in module.network.state_dict().items())
    strange = run_of(tmp_path / "other", "sovits", GptModule(), data)
    with pytest.raises(DataError, match="sovits"):
        load_run(strange.path)


def test_a_checkpoint_of_another_method_is_refused():
    whole, adapters = GptModule(), GptModule(method="lora", lora=LORA)
    for module in (whole, adapters):
        module.configure_model()
    saved = {"state_dict": whole.state_dict()}
    whole.on_save_checkpoint(saved)
    with pytest.raises(ConfigError, match=r"--model\.method"):
        adapters.on_load_checkpoint(saved)


@pytest.mark.parametrize(
    "given", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}, {"targets": ()}, {"targets": ("head",)}], ids=str
)
def test_adapters_of_no_use_are_refused(given):
    with pytest.raises(ConfigError, match=r"--model\.lora"):
        GptLoraOptions(**given)


def test_adapters_are_not_trained_relative_to_their_size():
    with pytest.raises(ConfigError, match="standard"):
        GptModule(method="lora", optimizer_kind="scaled_adam")
    assert GptModule(method="lora").scaled_adam is None
    assert GptModule().scaled_adam is not None
