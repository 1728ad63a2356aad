"""Whether a card really takes what the plan says it does: two steps on it, without data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from tts_train.callbacks.gradients import DropGradients
from tts_train.data.module import PlannedDataModule
from tts_train.plan.step import SETTINGS, itself

_STEPS = 2


def takes_a_step(module: LightningModule, data: PlannedDataModule, trainer: Mapping[str, Any], size: int) -> bool:
    """Take two optimiser steps on a made-up batch of ``size`` on this machine's accelerator.

    Returns:
        False if that runs out of memory; the second step is the first that has gradients and states from before.
    """
    settings = {name: trainer[name] for name in SETTINGS if trainer.get(name) is not None}
    each = int(settings.get("accumulate_grad_batches", 1))
    runner = Trainer(
        accelerator=str(trainer.get("accelerator", "auto")),
        devices=1,
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        callbacks=[DropGradients()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )
    batches: Any = [data.sample_batch(size)] * (_STEPS * each)
    loader: DataLoader[Any] = DataLoader(batches, batch_size=None, collate_fn=itself)
    with torch.random.fork_rng():
        try:
            runner.fit(module, train_dataloaders=loader)
        except torch.OutOfMemoryError:
            return False
    return True
