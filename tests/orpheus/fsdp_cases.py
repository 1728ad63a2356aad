"""Small runs of Orpheus as one process or as one of two: every strategy through the real session and checkpoints."""

from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.distributed.tensor import DTensor

from tests.core.pair import WORLD, note, ranks
from tests.orpheus.batches import packed, rows
from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.contract.backend import Sharding
from tts_train.contract.data import StageData
from tts_train.families.token_lm.network.adapters import LoraOptions
from tts_train.families.token_lm.network.network import HeadOptions
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.nn.float8 import Float8Options, Recipe
from tts_train.optim import OptimizerOptions, ScheduleOptions
from tts_train.parallel.processes import leave
from tts_train.run.checkpoint import RunCard
from tts_train.run.directory import RunDirectory
from tts_train.sharding.fsdp import FsdpStrategy
from tts_train.sharding.options import FsdpOptions
from tts_train.training.session import RunSession
from tts_train.training.survive.checkpoint import CheckpointOptions
from tts_train_orpheus.stage import OrpheusModule

PLAN = Sharding(wrap=("LlamaDecoderLayer",))
TINY = TinyOptions(hidden=16, layers=3, heads=2, kv_heads=1, mlp=40)
BATCHES = 16
VALIDATION = 4
LENGTHS = (17, 9, 21)
"""Of the documents of a batch: most of the time goes to the logits of their tokens."""

warnings.filterwarnings("ignore", module="lightning")


@dataclass(frozen=True)
class Case:
    """One run; ``steps`` optimiser steps on the same global batches whatever the number of processes."""

    strategy: str = "fsdp"
    method: str = "full"
    accumulate: int = 1
    checkpointing: bool = False
    precision: str = "32-true"
    optimizer: str = "adamw"
    float8: Recipe = "off"
    steps: int = 4
    fsdp: dict[str, Any] = field(default_factory=dict)


class Data(StageData):
    """Batches of equal size, so that a mean over tokens is one over batches too."""

    max_length = 256

    def __init__(self) -> None:
        super().__init__(seed=7)
        self.train_set = list(range(BATCHES))
        self.val_set = list(range(BATCHES, BATCHES + VALIDATION))

    def train_batches(self, epoch):
        order = torch.randperm(BATCHES, generator=torch.Generator().manual_seed(epoch)).tolist()
        return [[index] for index in order]

    def val_batches(self):
        return [[index] for index in range(VALIDATION)]

    def collate(self, given):
        if given[0] >= BATCHES:  # of different sizes: here every token must count the same
            return packed(rows(given[0], (given[0] - 8, 20)))
        # Only two different batches, so that a loss says what the steps before it did.
        return {**packed(rows(given[0] % 2, LENGTHS)), "ids": [f"u{given[0]}"]}


class Seen(Callback):
    """Notes the loss and the utterances of each batch, and the figures of each validation."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.ids: list[str] = []
        self.validations: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(float(trainer.callback_metrics["train/loss"]))
        self.ids += batch["ids"]

    def on_validation_end(self, trainer, pl_module):
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self.validations.append(figures)


def train(case: Case, folder: Path, *, break_after: str = "") -> dict[str, Any]:
    """Train, or continue, and return what was seen; ``break_after`` names a file after which the disk refuses."""
    gathered = case.accumulate * (WORLD // ranks())
    model = OrpheusModule(
        "tiny",
        method=case.method,
        lora=LoraOptions(rank=4),
        optimizer=OptimizerOptions(name=case.optimizer, lr=5e-3),
        schedule=ScheduleOptions("constant"),
        head=HeadOptions(chunk_tokens=64),
        gradient_checkpointing=case.checkpointing,
        float8=Float8Options(case.float8),
        tiny=TINY,
    )
    config = {"model": {"init_from": "tiny", "method": case.method, "tiny": vars(TINY)}}
    config["model"]["lora"] = {"rank": 4, "targets": list(LoraOptions().targets)}
    card = RunCard(backend="orpheus", stage="lm", config=config)
    writer = DirectoryCheckpointIO(_refuse_after(break_after) if break_after else None)
    seen, plugins = Seen(), [writer]
    if case.precision == "16-mixed":  # Lightning's flag would become bf16-mixed on a CPU
        plugins.append(MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=128.0)))
    with RunSession(RunDirectory(folder), card, seed=5) as session:
        trainer = Trainer(
            accelerator="cpu",
            devices=ranks(),
            strategy=_strategy(case),
            precision=None if case.precision == "16-mixed" else case.precision,
            plugins=plugins,
            callbacks=[*session.callbacks(CheckpointOptions(every_n_steps=2, monitor=None)), seen],
            max_steps=case.steps,
            accumulate_grad_batches=gathered,
            val_check_interval=2 * gathered,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            gradient_clip_val=0.05,
            log_every_n_steps=1,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            default_root_dir=folder,
        )
        session.fit(trainer, model, Data())
    return {"losses": seen.losses, "ids": seen.ids, "validations": seen.validations, "facts": _facts(model)}


def main(words: list[str]) -> None:
    """Run the calls, JSON of ``train``'s arguments, one after another and write down what this rank saw."""
    folder, results = Path(words[0]), []
    for word in words[1:]:
        call = json.loads(word)
        try:
            seen = train(Case(**call["case"]), folder / call["run"], break_after=call.get("break_after", ""))
        except Exception as error:
            if not call.get("break_after"):
                raise
            seen = {"error": f"{type(error).__name__}: {error}"}
        results.append(seen)
        note(folder, results)


def steps(case: Case, seen: dict[str, Any], processes: int) -> list[float]:
    """Return the mean loss of each optimiser step."""
    batches = case.accumulate * (WORLD // processes)
    return torch.tensor(seen["losses"]).reshape(-1, batches).mean(1).tolist()


def _strategy(case: Case) -> Any:
    if ranks() == 1:
        return "auto"
    return FsdpStrategy(PLAN, FsdpOptions(**case.fsdp)) if case.strategy == "fsdp" else case.strategy


def _facts(model: OrpheusModule) -> dict[str, Any]:
    parameters = dict(model.network.named_parameters())
    trained = [p for p in parameters.values() if p.requires_grad]
    return {
        "tied": model.network.tied,
        "sharded": sum(isinstance(p, DTensor) for p in parameters.values()),
        "parameters": len(parameters),
        "held": sum((p.to_local() if isinstance(p, DTensor) else p).numel() for p in trained),
        "whole": sum(p.numel() for p in trained),
    }


def _refuse_after(name: str):
    rank, ending = name.split(":")

    def refuse(path: Path) -> None:
        if os.environ["RANK"] == rank and path.name.startswith(ending):
            raise OSError(28, "No space left on device")

    return refuse


if __name__ == "__main__":
    main(sys.argv[1:])
    leave(0)
