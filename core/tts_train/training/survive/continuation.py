"""Exact continuation: random numbers, data position and changed hyperparameters of a run that goes on.

A run that goes on with other data than it was trained on says so: the path may be the same and its content not.
"""

from __future__ import annotations

import hashlib
import logging
import random
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tts_train.checkpoints.stored import own_states
from tts_train.contract.data import stage_data
from tts_train.run.directory import RunDirectory
from tts_train.run.hyperparameters import apply_changes, configured, refuse_other_optimizers
from tts_train.run.loops import count_restart_as_done, position, refetch

logger = logging.getLogger(__name__)


def seed_for(*parts: int | str) -> int:
    """Return a 64-bit seed that depends on every part; the same on every machine and version."""
    # Fixed widths and an end for words, so that no two lists of parts are encoded alike.
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
        # Here the optimisers are built and the checkpoint's states are not yet in them.
        self._now = configured(trainer.optimizers, [config.scheduler for config in trainer.lr_scheduler_configs])
        if self._before is not None:
            refuse_other_optimizers(before=self._before, now=self._now, run=trainer.default_root_dir)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Apply changed hyperparameters, and start the data again where training stands."""
        if getattr(trainer.strategy.checkpoint_io, "mapped", False):
            for optimizer in trainer.optimizers:
                # States read from a mapped file are changed in place by the first step, and must be memory of their
                # own.
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
        # The rank is a part, or all processes would drop out the same units.
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
        # Plateau schedules would otherwise miss the step of the epoch that was interrupted.
        count_restart_as_done(trainer)

    def _only_deterministic_convolutions(self) -> None:
        """Let cuDNN choose among kernels that give the same bits each time, unless it is told to try which is fastest.

        What is tried differs from process to process, and torch ignores the switch then.
        """
        # The user has asked for speed by name.
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


HASH, HASHES = "hash", "hashes"
"""What a data module's ``describe`` calls the hash of ``--data.path``, and those of its other sets by their option."""


class SameData(Callback):
    """Writes what the data are into ``run.json`` as soon as they are open, and compares them with what stood there.

    Args:
        run: the run directory.
        step: the step that the run continues from; None where it begins.
    """

    def __init__(self, run: RunDirectory, step: int | None) -> None:
        self.run = run
        self.step = step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare, and write; the data are open and no network is built yet."""
        data = stage_data(trainer)
        if stage != "fit" or data is None or not trainer.is_global_zero:
            return
        about = dict(data.describe())
        before = self.run.read_record().get("data")
        if self.step and isinstance(before, dict):
            for change in changed(before, about):
                logger.warning(
                    "%s. The data are not those that this run was trained on until step %d: it continues on them, and "
                    "its figures before and after cannot be compared. To train on the old data, put them back; for a "
                    "run on the new ones alone, give another directory: --run_dir %s-2",
                    change,
                    self.step,
                    self.run.path,
                )
        self.run.update_record(data=about)


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which sets are others than before; a set of which there is no hash is not compared."""
    old, new = _hashes(before), _hashes(now)
    found = []
    for option in sorted(set(old) & set(new)):
        if old[option] != new[option]:
            rows = f", {before.get('rows', '?')} rows -> {now.get('rows', '?')} rows" if option == "path" else ""
            found.append(f"--data.{option} has changed: hash {old[option][:12]} -> {new[option][:12]}{rows}")
    return found


def _hashes(about: Mapping[str, Any]) -> dict[str, str]:
    others = about.get(HASHES)
    named = {"path": about.get(HASH), **(others if isinstance(others, dict) else {})}
    return {option: value for option, value in named.items() if isinstance(value, str)}
