"""The training loop on the tiny base: precisions, methods, checkpoints, figures, two processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from jsonargparse import ArgumentParser, set_parsing_settings
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader

from tests.orpheus.batches import packed, padded, rows
from tests.orpheus.family import DESCRIPTION, OrpheusNetwork, load_base, load_trained
from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.contract.data import StageData
from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.adapters import LoraOptions, merge
from tts_train.families.token_lm.network.network import HeadOptions
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.optim.build import build_optimizer
from tts_train.run.checkpoint import CARD_KEY, RunCard
from tts_train_orpheus.stage import OrpheusModule


class Data(StageData):
    max_length = 2048

    def train_batches(self, epoch):
        return [[0], [1]]

    def collate(self, rows):
        return rows

    def train_dataloader(self):
        return DataLoader([packed(rows(seed)) for seed in range(2)], batch_size=None)

    def val_dataloader(self):
        # Rows that were trained on: random text teaches nothing about other random text.
        return DataLoader([packed(rows(0)), packed(rows(1)[:1])], batch_size=None)


def module(method="full", **changes):
    options = {
        "lora": LoraOptions(rank=4),
        "optimizer": OptimizerOptions(lr=5e-3 if method == "full" else 1e-2),
        "schedule": ScheduleOptions("constant"),
        "head": HeadOptions(chunk_tokens=64),
    }
    return OrpheusModule("tiny", method=method, **(options | changes))


def trainer(tmp_path, *, steps=4, precision="32-true", **changes):
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False} | changes
    options.setdefault("limit_val_batches", 0)  # the vocabulary makes a batch dear, and few tests ask for a figure
    return lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        precision=precision,
        default_root_dir=tmp_path,
        log_every_n_steps=1,
        gradient_clip_val=1.0,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        ("full", "32-true"),
        ("full", "bf16-mixed"),
        pytest.param("full", "bf16-true", marks=pytest.mark.slow),
        pytest.param("lora", "bf16-mixed", marks=pytest.mark.slow),
        ("qlora", "bf16-true"),
    ],
)
def test_trains_and_logs(tmp_path, method, precision):
    model = module(method, gradient_checkpointing=True)
    run = trainer(tmp_path, steps=8, precision=precision, limit_val_batches=1.0, check_val_every_n_epoch=4)
    before = run.validate(model, datamodule=Data(), verbose=False)[0]
    run.fit(model, datamodule=Data())
    after = {name: value.item() for name, value in run.callback_metrics.items()}
    assert after["val/loss"] < before["val/loss"] - 0.02
    names = {"val/loss/text", "val/loss/control", "val/loss/audio", "val/wrong_slot", "val/slot_accuracy/6"}
    assert names | {"train/loss", "train/loss/audio", "train/slot_accuracy/0"} <= set(after)
    weights = {p.dtype for p in model.network.parameters() if p.is_floating_point()}
    assert (torch.float32 in weights) == (precision != "bf16-true")
    assert model.network.lm.model.rotary_emb.inv_freq.dtype == torch.float32


def test_a_frozen_embedding_stays_and_costs_no_states(tmp_path):
    model, run = module(freeze_embedding=True), trainer(tmp_path)
    run.fit(model, datamodule=Data())
    start, table = load_base("tiny").state_dict(), model.network.lm.model.embed_tokens.weight
    assert torch.equal(table, start["model.embed_tokens.weight"])
    assert not torch.equal(
        model.network.lm.model.layers[0].mlp.up_proj.weight, start["model.layers.0.mlp.up_proj.weight"]
    )
    assert table.grad is None
    states = run.optimizers[0].state_dict()["state"].values()
    assert max(value.numel() for state in states for value in state.values()) < table.numel()
    kept = saved(run, tmp_path / "x.ckpt")["state_dict"]
    assert torch.equal(kept["network.lm.model.embed_tokens.weight"], table), "an export needs it"
    with pytest.raises(ConfigError, match="train_embedding"):
        module("lora", freeze_embedding=True)


def test_validation_counts_tokens_not_batches(tmp_path):
    model = module(head=HeadOptions(softmax="slot"))
    figures = trainer(tmp_path, limit_val_batches=1.0).validate(model, datamodule=Data(), verbose=False)[0]
    model.eval()
    outputs = [model.network(batch) for batch in Data().val_dataloader()]
    mean = sum(o.loss_sum.item() for o in outputs) / sum(o.count for o in outputs)
    assert figures["val/loss"] == pytest.approx(mean, rel=1e-6)


def saved(run, path):
    run.save_checkpoint(path)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_a_resumed_run_goes_on_as_if_never_stopped(tmp_path, method):
    through = module(method)
    run = trainer(tmp_path, limit_val_batches=1.0)
    run.fit(through, datamodule=Data())
    half = trainer(tmp_path, steps=2, limit_val_batches=1.0)
    half.fit(module(method), datamodule=Data())
    checkpoint = saved(half, tmp_path / "half.ckpt")
    names = set(checkpoint["state_dict"])
    assert "network.lm.lm_head.weight" not in names
    assert method == "full" or all(".lora_" in name for name in names)
    resumed = module(method)
    trainer(tmp_path, limit_val_batches=1.0).fit(
        resumed, datamodule=Data(), ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    for (name, one), (_, other) in zip(
        through.network.named_parameters(), resumed.network.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_the_trained_network_comes_back(tmp_path, method):
    model, run = module(method), trainer(tmp_path)
    run.fit(model, datamodule=Data())
    checkpoint = saved(run, tmp_path / "x.ckpt")
    arguments = {"init_from": "tiny", "method": method, "lora": {"rank": 4, "targets": list(LoraOptions().targets)}}
    back = load_trained(arguments, checkpoint["state_dict"], description=checkpoint[DESCRIPTION])
    assert not back.training
    assert back.tied
    batch = packed(rows(3))
    with torch.no_grad():
        expected = model.network.eval()(batch).loss.item()
        assert back(batch).loss.item() == pytest.approx(expected, abs=0.02 if method == "qlora" else 1e-6)
        if method != "full":
            adapted = back(batch).loss.item()
            merge(back)
            assert back(batch).loss.item() == pytest.approx(adapted, abs=1e-5)


def test_a_checkpoint_of_another_method_is_refused(tmp_path):
    run = trainer(tmp_path, steps=1, limit_val_batches=0)
    run.fit(module("lora"), datamodule=Data())
    run.save_checkpoint(tmp_path / "lora.ckpt")
    again = trainer(tmp_path, steps=2, limit_val_batches=0)
    with pytest.raises(ConfigError, match=r"missing .*unknown .*--model\.method"):
        again.fit(module("full"), datamodule=Data(), ckpt_path=tmp_path / "lora.ckpt", weights_only=True)
    weights = torch.load(tmp_path / "lora.ckpt", weights_only=True)["state_dict"]
    with pytest.raises(ConfigError, match="missing"):
        load_trained({"init_from": "tiny", "method": "lora", "lora": {"rank": 4}}, dict(list(weights.items())[1:]))


def test_data_longer_than_the_base_is_refused(tmp_path):
    data = Data()
    data.max_length = 200_000
    with pytest.raises(ConfigError, match=r"200000 tokens.*131072 positions: give --data\.max_tokens"):
        trainer(tmp_path, limit_val_batches=1.0).validate(module(), datamodule=data, verbose=False)


class Card(lightning.Callback):
    """Adds what the command line adds to every checkpoint."""

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        lora = {"rank": 4}
        config = {"model": {"init_from": "tiny", "method": pl_module.method, "lora": lora}}
        checkpoint[CARD_KEY] = RunCard(backend="orpheus", stage="lm", config=config).as_dict()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_can_be_the_base_of_the_next(tmp_path, method):
    first, io = module(method), DirectoryCheckpointIO()
    run = trainer(tmp_path, limit_val_batches=0, plugins=[io], callbacks=[Card()])
    run.fit(first, datamodule=Data())
    run.save_checkpoint(tmp_path / "step-4")
    second = module("lora")
    second.init_from = str(tmp_path / "step-4")
    trainer(tmp_path, limit_val_batches=1.0).validate(second, datamodule=Data(), verbose=False)
    batch = packed(rows(3))
    with torch.no_grad():
        losses = [model.network.eval()(batch).loss.item() for model in (first, second)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_arguments_are_flags():
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(OrpheusModule, "model")
    help_text = parser.format_help()
    assert "Rank of each adapter." in help_text
    assert "Learning rate after warm-up." in help_text
    flags = ["--model.lora.rank=8", "--model.optimizer.betas=[0.8,0.9]", "--model.head.softmax=slot"]
    made = parser.instantiate(parser.parse_args(["--model.method=lora", *flags])).model
    assert (made.method, made.lora.rank, made.optimizer_options.betas) == ("lora", 8, (0.8, 0.9))
    assert made.head.softmax == "slot"


@pytest.fixture
def one_process():
    torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_a_sharded_network_has_the_same_loss_and_gradients():
    batch = packed(rows())
    networks = [OrpheusNetwork(load_base("tiny"), HeadOptions(chunk_tokens=32)) for _ in range(2)]
    for layer in networks[1].lm.model.layers:
        fully_shard(layer)
    fully_shard(networks[1])
    outputs = [network(batch) for network in networks]
    for output in outputs:
        output.loss.backward()
    assert outputs[0].loss.item() == outputs[1].loss.item()
    assert networks[1].tied
    for plain, sharded in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(sharded.grad.full_tensor(), plain.grad)
    with pytest.raises(ConfigError, match="sharded"):
        build_optimizer(networks[1], OptimizerOptions(name="paged_adamw8bit"))


def test_work_counts_real_tokens():
    documents = rows()
    total = sum(map(len, documents))
    for batch in (packed(documents), padded(documents)):
        assert module().work_in(batch) == (total, 2.5)


_TWO = """
import sys
from pathlib import Path
from tests.orpheus.test_module import two_processes
two_processes(int(sys.argv[1]), Path(sys.argv[2]))
"""


class Uneven(lightning.LightningDataModule):
    """Each process gets other documents, and not as many tokens."""

    def train_dataloader(self):
        documents = rows(5)
        if self.trainer.world_size == 1:
            return DataLoader([packed(documents)] * 3, batch_size=None)
        mine = documents[:1] if self.trainer.global_rank else documents[1:]
        return DataLoader([packed(mine)] * 3, batch_size=None)

    def val_dataloader(self):
        return self.train_dataloader()


def two_processes(devices: int, out: Path) -> None:
    torch.manual_seed(0)
    model = module(optimizer=OptimizerOptions(lr=1e-2))
    strategy = "ddp" if devices > 1 else "auto"
    several = {"devices": devices, "strategy": strategy, "use_distributed_sampler": False}
    run = trainer(out, steps=3, limit_val_batches=1.0, **several)
    run.fit(model, datamodule=Uneven())
    if run.global_rank == 0:
        figures = {name: run.callback_metrics[name].item() for name in ("train/loss", "val/loss", "val/loss/audio")}
        torch.save(figures, out / f"{devices}.pt")


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(_TWO, encoding="utf-8")
    root = Path(__file__).parents[2]
    two_processes(1, tmp_path)
    subprocess.run([sys.executable, script, "2", tmp_path], cwd=root, check=True, env=_environment(root))
    one, two = (torch.load(tmp_path / f"{devices}.pt", weights_only=True) for devices in (1, 2))
    assert two == pytest.approx(one, rel=1e-5)


def _environment(root: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
