"""A tiny real training run: dropout, AdamW, a schedule, validation, and a record of what it saw."""

from __future__ import annotations

import hashlib
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import Dataset

from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.contract.data import StageData
from tts_train.datasets.batches import shuffled
from tts_train.run.checkpoint import RunCard
from tts_train.run.directory import RunDirectory
from tts_train.training.session import RunSession
from tts_train.training.survive.checkpoint import CheckpointOptions

ROWS, BATCH = 15, 3
"""Five batches an epoch."""

warnings.filterwarnings("ignore", module="lightning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Rows(Dataset):
    def __init__(self, count: int, seed: int) -> None:
        self.x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"id": int(index), "x": self.x[index]}


class ToyData(StageData):
    def __init__(self, *, seed: int = 3, num_workers: int = 0, uneven: bool = False) -> None:
        super().__init__(seed=seed, num_workers=num_workers)
        self.uneven = uneven
        self.train_set = Rows(ROWS, 1)
        self.val_set = Rows(6, 2)

    def train_batches(self, epoch):
        order = shuffled(ROWS, seed=self.seed, epoch=epoch).tolist()
        plan = [order[i : i + BATCH] for i in range(0, ROWS, BATCH)]
        if self.uneven and epoch % 2:
            return [plan[0][:1], plan[0][1:], *plan[1:]] if epoch == 1 else plan[:-1]
        return plan

    def val_batches(self):
        return [[0, 1], [2, 3], [4, 5]]

    def collate(self, rows):
        return {"ids": [str(row["id"]) for row in rows], "x": torch.stack([row["x"] for row in rows])}

    def describe(self):
        return {"rows": ROWS}


class Toy(LightningModule):
    def __init__(self, *, lr: float = 0.05, schedule: str = "estimated", plateau: bool = False) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.Dropout(0.3), torch.nn.ReLU(), torch.nn.Linear(16, 4)
        )
        self.lr, self.schedule, self.plateau = lr, schedule, plateau
        self.seen: list[tuple] = []
        self.validated: list[tuple] = []

    def training_step(self, batch, batch_idx):
        loss = (self.net(batch["x"]) - batch["x"].roll(1, 1)).square().mean()
        rate = self.optimizers().param_groups[0]["lr"]
        self.seen.append((self.current_epoch, batch_idx, self.global_step, tuple(batch["ids"]), loss.item(), rate))
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        loss = (self.net(batch["x"] + torch.randn(2, 4) * 0.1) - batch["x"].roll(1, 1)).square().mean()
        self.validated.append((self.global_step, batch_idx, loss.item()))
        self.log("val/loss", loss, on_epoch=True, batch_size=2)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr)
        if self.schedule == "none":
            return optimizer
        if self.schedule == "plateau":
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val/loss"}}
        total = self.trainer.estimated_stepping_batches if self.schedule == "estimated" else 20
        if self.schedule == "cosine":
            scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)
        else:
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (total + 5))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def make_trainer(path: Path, callbacks: list, **kwargs: Any) -> Trainer:
    settings = {
        "accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "default_root_dir": path, "use_distributed_sampler": False,
        "num_sanity_val_steps": 0, "max_epochs": 4, "gradient_clip_val": 1.0,
    }  # fmt: skip
    plugins = [DirectoryCheckpointIO(), *kwargs.pop("plugins", [])]
    return Trainer(callbacks=callbacks, plugins=plugins, **{**settings, **kwargs})


def run(
    path: Path,
    *,
    every: int = 1,
    keep: int = 100,
    inject: str | None = None,
    module: Toy | None = None,
    data: ToyData | None = None,
    config: dict | None = None,
    identity: tuple[str, ...] = (),
    extra: list | None = None,
    monitor: str | None = "val/loss",
    **trainer: Any,
) -> Toy:
    """Train, or continue, in ``path`` and return the module with what it saw."""
    module = module or Toy()
    card = RunCard(backend="toy", stage="only", config=config or {})
    with RunSession(RunDirectory(path), card, seed=5, identity=identity) as session:
        callbacks = session.callbacks(CheckpointOptions(every_n_steps=every, keep=keep, monitor=monitor), inject=inject)
        session.fit(make_trainer(path, [*callbacks, *(extra or [])], **trainer), module, data or ToyData())
    return module


def digest(directory: Path) -> str:
    """Hash the weights and optimiser states of a checkpoint."""
    hashed = hashlib.sha256()
    for name in ("model.safetensors", "optimizer.safetensors"):
        hashed.update((directory / name).read_bytes())
    return hashed.hexdigest()
