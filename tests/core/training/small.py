"""A tiny real training run for callback tests."""

from __future__ import annotations

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from tts_train.contract.module import StageModule, Work


class Clock:
    """Seconds that pass only where something is said to take some, so that a busy machine changes no figure."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


class Numbers(Dataset):
    """Sixteen random vectors; reading one takes ``delay_s`` seconds of ``clock``."""

    def __init__(self, delay_s: float = 0.0, clock: Clock | None = None) -> None:
        self.delay_s = delay_s
        self.clock = clock or Clock()

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> torch.Tensor:
        self.clock.spend(self.delay_s)
        return torch.full((4,), float(index))


class Tiny(StageModule):
    """A linear layer that logs like a backend's module; a step takes ``step_s`` seconds of ``clock``."""

    def __init__(self, step_s: float = 0.0, val_s: float = 0.0) -> None:
        super().__init__()
        self.clock = Clock()
        self.layer = torch.nn.Linear(4, 1)
        self.step_s, self.val_s = step_s, val_s
        self.losses: list[float] = []

    def work_in(self, batch: torch.Tensor) -> Work:
        return Work(tokens=torch.tensor(batch.numel()), audio_seconds=0.5 * len(batch))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.clock.spend(self.step_s)
        loss = self.layer(batch / 16).square().mean()
        self.losses.append(loss.item())
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: torch.Tensor) -> None:
        self.clock.spend(self.val_s)
        self.log("val/loss", self.layer(batch / 16).square().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(module: Tiny, callbacks: list[L.Callback], *, delay_s: float = 0.0, val: bool = False, **options) -> L.Trainer:
    """Train on the CPU in this process with batches of two."""
    data = DataLoader(Numbers(delay_s, module.clock), batch_size=2)
    ckpt_path = options.pop("ckpt_path", None)
    options = {"max_steps": 6, "log_every_n_steps": 2, "num_sanity_val_steps": 0, "logger": False, **options}
    options = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, **options}
    trainer = L.Trainer(accelerator="cpu", callbacks=callbacks, **options)
    trainer.fit(module, data, DataLoader(Numbers(), batch_size=8) if val else None, ckpt_path=ckpt_path)
    return trainer
