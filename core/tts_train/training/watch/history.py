"""What a run writes while it trains: every logged scalar, where its base stands, and ``report.html`` up to date."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import lightning as L
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from tts_train.errors import TTSTrainError
from tts_train.report.history import History
from tts_train.report.page import write_report
from tts_train.training.listen.budget import TimeBudget

logger = logging.getLogger(__name__)


class Baseline(Callback):
    """Log the figures of the validation that Lightning runs before training, at step 0.

    Lightning means it as a sanity check and throws the figures away. It runs over the whole validation set with
    ``--trainer.num_sanity_val_steps -1`` (the default here), and not when a run continues.
    """

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand the figures to the loggers."""
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)


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
        # A trainer may fit more than once.
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


MAX_SHARE = 0.02
"""Most of a run's time that writing the page may take; it grows with the samples that it holds."""


class LiveReport(Callback):
    """Writes the page after each validation; as a context manager also where the run in its block ends by an error.

    The block should hold the run's session, so that the page tells how it ended.

    Args:
        run_dir: the run.
    """

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._budget = TimeBudget(MAX_SHARE)
        self._trains = False

    def __enter__(self) -> LiveReport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A run that ends well writes its page last, where the session has written how it ended.
        if error is not None and self._trains and self._run_dir.is_dir():  # which a refusal has removed
            self._write()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count time, in the process that writes."""
        self._trains = trainer.is_global_zero
        self._budget.begin()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the page, with this validation's figures and samples."""
        if self._trains and not trainer.sanity_checking and self._budget.allows():
            with self._budget.spend():
                self._write()

    def _write(self) -> None:
        """Write the page; a disk that is full stops neither training nor the error that is on its way."""
        try:
            write_report(self._run_dir)
        except (OSError, TTSTrainError) as error:
            logger.warning("The report of %s could not be written: %s", self._run_dir, error)
