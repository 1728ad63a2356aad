"""Keep ``report.html`` up to date while a run trains, and after it was stopped."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType

from lightning.pytorch import Callback, LightningModule, Trainer

from tts_train.errors import TTSTrainError
from tts_train.report.page import write_report
from tts_train.training.listen.budget import TimeBudget

MAX_SHARE = 0.02
"""Most of a run's time that writing the page may take; it grows with the samples that it holds."""

logger = logging.getLogger(__name__)


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
