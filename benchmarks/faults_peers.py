"""The other sides: Hugging Face's Trainer and plain Lightning, with the toy's network, data and settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from faults_sides import BINS, TEXT, WIDTH, Plan, Side, StepLog, finish, note, ready
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint
from tts_train_toy.data import LINE
from tts_train_toy.module import ToyModule
from tts_train_toy.network import ToyNetwork, letters, tone

KEEP, BATCH = 3, 2


def lines() -> list[Tensor]:
    """The toy's training lines."""
    whole = letters(TEXT)
    return [whole[i : i + LINE] for i in range(0, len(whole) - LINE + 1, LINE)][:-1]


class _Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = ToyNetwork(BINS, WIDTH)

    def forward(self, letters: Tensor) -> dict[str, Tensor]:
        return {"loss": mse_loss(self.network(letters), tone(letters, BINS))}


class _Notes(TrainerCallback):
    def __init__(self, folder: Path, nan_at: tuple[int, ...]) -> None:
        self.folder, self.nan_at = folder, nan_at

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        note(self.folder, f"from:{state.global_step}")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step + 1 in self.nan_at:
            next(model.parameters()).grad.fill_(float("nan"))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        note(self.folder, str(state.global_step))


@dataclass(frozen=True)
class HuggingFace(Side):
    """`transformers.Trainer`, continued as its example scripts do."""

    pattern: str = "checkpoint-*"

    def files(self, checkpoint: Path) -> dict[str, Path]:
        """Weights, optimiser and the trainer's state."""
        names = ("model.safetensors", "optimizer.pt", "trainer_state.json")
        return {name: checkpoint / name for name in names}

    def train(self, folder: Path, plan: Plan) -> None:
        """Train, from `get_last_checkpoint` if there is one."""
        ready(folder)
        set_seed(0)
        arguments = TrainingArguments(
            str(folder), max_steps=plan.steps, per_device_train_batch_size=BATCH, learning_rate=plan.lr,
            lr_scheduler_type="constant", save_steps=plan.every, save_total_limit=KEEP, logging_steps=10, use_cpu=True,
            report_to=[], disable_tqdm=True, remove_unused_columns=False, dataloader_pin_memory=False, seed=0,
        )  # fmt: skip
        trainer = Trainer(
            _Network(), arguments, train_dataset=[{"letters": line} for line in lines()],
            callbacks=[_Notes(folder, plan.nan_at)],
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
        rate = trainer.optimizer.param_groups[0]["lr"]
        finish(folder, trainer.model.state_dict(), step=trainer.state.global_step, lr=float(rate))


class _Nan(Callback):
    def __init__(self, nan_at: tuple[int, ...]) -> None:
        self.nan_at = nan_at

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if trainer.global_step + 1 in self.nan_at:
            next(pl_module.parameters()).grad.fill_(float("nan"))


@dataclass(frozen=True)
class Lightning(Side):
    """`lightning.Trainer` with ModelCheckpoint, continued by `ckpt_path="last"`."""

    pattern: str = "kept/*.ckpt"

    def newest(self, folder: Path) -> Path:
        """It continues from ``last.ckpt``."""
        return folder / "kept" / "last.ckpt"

    def files(self, checkpoint: Path) -> dict[str, Path]:
        """One file holds all."""
        return {checkpoint.name: checkpoint}

    def train(self, folder: Path, plan: Plan) -> None:
        """Train, from ``last`` if there is one."""
        ready(folder)
        lightning.seed_everything(0, workers=True, verbose=False)
        keeping = ModelCheckpoint(
            folder / "kept", every_n_train_steps=plan.every, save_top_k=KEEP, monitor="step", mode="max", save_last=True
        )
        module = ToyModule(BINS, WIDTH, plan.lr)
        trainer = lightning.Trainer(
            accelerator="cpu", max_steps=plan.steps, default_root_dir=folder, logger=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[StepLog(), _Nan(plan.nan_at), keeping], num_sanity_val_steps=0,
            limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(module, DataLoader(lines(), batch_size=BATCH, shuffle=True), ckpt_path="last", weights_only=True)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        finish(folder, module.network.state_dict(), step=trainer.global_step, lr=float(rate))
