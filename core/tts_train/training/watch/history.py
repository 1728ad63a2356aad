"""Keep every logged scalar in ``logs/metrics.jsonl``, so that the report needs no TensorBoard file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import lightning as L
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from tts_train.report.history import History


class MetricsHistory(L.Callback):
    """Add a logger that appends each scalar to ``<run_dir>/logs/metrics.jsonl``, next to the run's other loggers.

    The step written is the trainer's ``global_step``, so it agrees with checkpoint names. When a run continues from
    step N, entries beyond N are dropped first: those steps are done again.
    """

    def __init__(self, run_dir: Path) -> None:
        self.history = History(Path(run_dir))

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Join the trainer's loggers, unless this is a fast development run."""
        if stage != "fit" or getattr(trainer, "fast_dev_run", False):
            return
        if not any(isinstance(logger, _HistoryLogger) for logger in trainer.loggers):
            trainer.loggers = [*trainer.loggers, _HistoryLogger(self.history, trainer)]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Drop what lies beyond the step that training starts from."""
        if trainer.is_global_zero:
            self.history.keep_until(trainer.global_step)


class _HistoryLogger(Logger):
    """Lightning's logger interface in front of a :class:`History`."""

    def __init__(self, history: History, trainer: L.Trainer) -> None:
        super().__init__()
        self._history = history
        self._trainer = trainer

    @property
    def name(self) -> str:
        return "history"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._history.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        # Lightning's own step counts batches from 0; checkpoints are named by optimiser steps.
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        self._history.append(values, step=self._trainer.global_step, epoch=self._trainer.current_epoch)

    @rank_zero_only
    def log_hyperparams(self, params: object, *args: object, **kwargs: object) -> None:
        """Nothing to do: ``config.yaml`` holds them."""
