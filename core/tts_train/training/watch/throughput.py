"""Log how fast a run goes: tokens, seconds of speech and steps a second, the wait for data, and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import psutil
import torch

from tts_train.contract.module import StageModule

WORK = {"tokens": "throughput/tokens_per_s", "audio_seconds": "throughput/audio_s_per_s"}
"""Fields of :class:`~tts_train.contract.module.Work`, and the metrics they become."""
_GIB = 1024**3


class Throughput(L.Callback):
    """Log speeds every ``log_every_n_steps`` steps, over the steps since the last time.

    A module says how much a batch is with :meth:`~tts_train.contract.module.StageModule.work_in`; without an answer
    only steps are counted. Validation and whatever runs
    from a validation or a checkpoint to the next batch is left out of the time. The device is waited for at log
    points and before those pauses only. Each process counts its own share; figures are for all of them.

    Logged: ``throughput/tokens_per_s``, ``throughput/audio_s_per_s``, ``throughput/steps_per_s`` (the trainer's
    global steps), ``throughput/data_wait`` (share of the time between batches, 0 to 1) and ``memory/peak_gib`` (CUDA
    memory allocated at most since the process began; without a GPU, this process's resident memory now).
    """

    latest: dict[str, float]
    """What was logged last; empty before the first log point."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.latest = {}
        self._first_step = 0
        self._work: dict[str, Any] = {}
        self._busy = self._waited = 0.0
        self._paused, self._mark = True, clock()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the first window; loading the first batch is not counted."""
        self._begin(trainer.global_step)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave starting an epoch's workers out of the wait for data."""
        self.exclude(pl_module.device)

    def on_train_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """End the wait for data, or a pause, and begin the step."""
        now = self._clock()
        if not self._paused:
            self._waited += now - self._mark
        self._paused, self._mark = False, now

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Add the step's work; at a log point publish the window and begin the next."""
        for key, amount in _count(pl_module, batch).items():
            # No float() here: reading a tensor would wait for the device.
            self._work[key] = self._work.get(key, 0.0) + amount
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        logs = trainer.global_step - self._first_step >= every
        if logs:
            # Else the time of launching would be measured, not that of the work.
            _wait_for(pl_module.device)
        now = self._clock()
        self._busy, self._mark = self._busy + now - self._mark, now
        if logs:
            self._publish(trainer, pl_module.device)
            self._begin(trainer.global_step, paused=False)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Pause until the next training batch."""
        if not trainer.sanity_checking:
            self.exclude(pl_module.device)

    def on_save_checkpoint(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        """Pause until the next training batch."""
        self.exclude(pl_module.device)

    def exclude(self, device: torch.device) -> None:
        """Leave the time from now to the next training batch out; for work that is not training.

        What the device still has to do belongs to the steps before, so it is waited for first.
        """
        if self._paused:
            return
        _wait_for(device)
        self._busy += self._clock() - self._mark
        self._paused = True

    def _begin(self, step: int, *, paused: bool = True) -> None:
        self._first_step = step
        self._work = {}
        self._busy = self._waited = 0.0
        self._paused = paused
        self._mark = self._clock()

    def _publish(self, trainer: L.Trainer, device: torch.device) -> None:
        seconds = max(self._busy + self._waited, 1e-9)
        speeds = {
            name: float(self._work[key]) * trainer.world_size / seconds
            for key, name in WORK.items()
            if key in self._work
        }
        self.latest = {
            **speeds,
            "throughput/steps_per_s": (trainer.global_step - self._first_step) / seconds,
            "throughput/data_wait": self._waited / seconds,
            "memory/peak_gib": _memory(device) / _GIB,
        }
        for logger in trainer.loggers:
            logger.log_metrics(self.latest, step=trainer.global_step)


def _count(pl_module: L.LightningModule, batch: Any) -> Mapping[str, Any]:  # noqa: ANN401
    work = pl_module.work_in(batch) if isinstance(pl_module, StageModule) else None
    return {} if work is None else work._asdict()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Now, not at most: Python's resource module has no peak under Windows.
    return int(psutil.Process().memory_info().rss)
