"""Exact continuation: random numbers, data position and changed hyperparameters of a run that goes on."""

from __future__ import annotations

import hashlib
import logging
import random
import struct
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tts_train.checkpoints.stored import own_states
from tts_train.contract.data import stage_data
from tts_train.run.hyperparameters import apply_changes, configured, refuse_other_optimizers
from tts_train.run.loops import count_restart_as_done, position, refetch

logger = logging.getLogger(__name__)


def seed_for(*parts: int | str) -> int:
    """Return a 64-bit seed that depends on every part; the same on every machine and version."""
    encoded = b"".join(struct.pack("<q", part) if isinstance(part, int) else part.encode() + b"\0" for part in parts)
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")


def seed_everything(seed: int) -> None:
    """Set the random state of torch (CPU and all devices in use, without waiting for them), numpy and Python."""
    # Not torch.manual_seed: for each kind of device that is not in use it formats the stack, milliseconds a batch.
    torch.default_generator.manual_seed(seed)
    for kind in (torch.cuda, torch.xpu, torch.mtia):
        if kind.is_initialized():
            kind.manual_seed_all(seed)
    torch.mps.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


class ExactContinuation(Callback):
    """Makes what a batch sees a function of (seed, epoch, batch, rank), whatever came before it in this process.

    The random state is set at every batch, rather than saved and restored: a restored state is already wrong when
    the new process has drawn once more, as making a loader's iterator does.

    Args:
        seed: the run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._now: dict[str, Any] = {}
        self._before: dict[str, Any] | None = None
        self._cudnn_before: bool | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the hyperparameters as configured, before a checkpoint's are put in their place.

        Raises:
            ConfigError: if the checkpoint's states are those of another optimiser.
        """
        self._only_deterministic_convolutions()
        self._now = configured(trainer.optimizers, [config.scheduler for config in trainer.lr_scheduler_configs])
        if self._before is not None:
            refuse_other_optimizers(before=self._before, now=self._now, run=trainer.default_root_dir)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Apply changed hyperparameters, and start the data again where training stands."""
        if getattr(trainer.strategy.checkpoint_io, "mapped", False):
            for optimizer in trainer.optimizers:
                own_states(optimizer)
        if self._before is not None:
            schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
            for change in apply_changes(trainer.optimizers, schedulers, before=self._before, now=self._now):
                logger.info("Changed since the run was started: %s.", change)
        data = stage_data(trainer)
        if data is not None and data.train_sampler.started_at not in (None, position(trainer)):
            # Data workers were fed before the checkpoint's position was known (by estimated_stepping_batches).
            refetch(trainer)

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """Set the random state of this batch."""
        seed_everything(seed_for(self.seed, "train", trainer.current_epoch, batch_idx, trainer.global_rank))

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Set the random state of this batch, the same in every validation."""
        seed_everything(seed_for(self.seed, "validation", dataloader_idx, batch_idx, trainer.global_rank))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave cuDNN as it was."""
        self._give_back_cudnn()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave cuDNN as it was."""
        self._give_back_cudnn()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End the epoch as one that was never interrupted."""
        count_restart_as_done(trainer)

    def _only_deterministic_convolutions(self) -> None:
        """Let cuDNN choose among kernels that give the same bits each time, unless it is told to try which is fastest.

        What is tried differs from process to process, and torch ignores the switch then.
        """
        if torch.backends.cudnn.benchmark:
            logger.info("--trainer.benchmark true: a continued run on a card may differ in its last digits.")
            return
        if self._cudnn_before is None:
            self._cudnn_before = torch.backends.cudnn.deterministic
        torch.backends.cudnn.deterministic = True

    def _give_back_cudnn(self) -> None:
        if self._cudnn_before is not None:
            torch.backends.cudnn.deterministic, self._cudnn_before = self._cudnn_before, None

    def state_dict(self) -> dict[str, Any]:
        """Return the hyperparameters as configured for this process."""
        return {"configured": self._now}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up :meth:`state_dict`."""
        self._before = state_dict["configured"]
