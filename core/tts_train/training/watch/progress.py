"""Progress of training on stderr: a bar of all steps on a terminal, else a line every ten seconds."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar

from tts_train.progress import LINE_EVERY_S, Progress, describe, write_line
from tts_train.run.loops import logs_now
from tts_train.training.watch.throughput import WORK, Throughput

LOSS = "train/loss"
"""What modules log their training loss as."""

_TOKENS = WORK["tokens"]


class TrainingProgress(ProgressBar):
    """Show ``Training: 120/400 (30 %), 3 min 20 s left, loss 2.31, 8028 tokens/s``, and each validation's loss.

    The steps are the optimiser's, of the whole run. The loss is what the module logged as ``train/loss`` in the last
    step whose figures were read: modules log without ``prog_bar=True``, with which Lightning reads a value at the end
    of every batch, where the host would wait for the card. Tokens/s come from :class:`Throughput` among the callbacks.

    Args:
        every_s: Seconds between lines where stderr is no terminal.
    """

    def __init__(self, *, every_s: float = LINE_EVERY_S) -> None:
        super().__init__()
        self._every_s = every_s
        self._enabled = True
        self._loss: float | None = None
        self._progress: Progress | None = None

    def enable(self) -> None:
        """Show progress; Lightning calls this on the first process."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning calls this on all processes but the first."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Write what a module prints to stderr instead of stdout."""
        self._write(" ".join(map(str, args)))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start to measure the time that is left."""
        if self._enabled:
            step = trainer.global_step
            self._progress = Progress("Training", _steps(trainer), done=step, every_s=self._every_s).__enter__()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Count the step."""
        self._loss = _loss_if_logged(trainer, self._loss)
        if self._progress is not None:
            self._progress.to(trainer.global_step, note=self._note(trainer))

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say that training waits for a validation."""
        if self._progress is not None:
            total = trainer.num_val_batches[dataloader_idx]
            of = f"/{total}" if math.isfinite(total) else ""
            self._progress.to(trainer.global_step, note=f"validating {batch_idx + 1}{of}")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the validation loss as soon as it is known."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not trainer.sanity_checking:
            at = f" at step {trainer.global_step}" if trainer.state.fn == "fit" else ""
            self._write(f"Validation{at}: loss {float(loss):.4g}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the last line in place of the bar."""
        self._loss = _loss_of(trainer, self._loss)
        self._stop()
        line = describe("Training", trainer.global_step, _steps(trainer), None)
        note = self._note(trainer)
        self._write(f"{line}, {note}" if note else line)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Take the bar away before the error is told."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.__exit__()
            self._progress = None

    def _write(self, text: str) -> None:
        if self._progress is not None:
            self._progress.write(text)
        elif self._enabled:
            write_line(text)

    def _note(self, trainer: L.Trainer) -> str:
        parts = [f"loss {self._loss:.4g}"] if self._loss is not None else []
        speeds = [callback.latest for callback in trainer.callbacks if isinstance(callback, Throughput)]  # type: ignore[attr-defined]
        return ", ".join([*parts, *(f"{speed[_TOKENS]:.0f} tokens/s" for speed in speeds if _TOKENS in speed)])


def _loss_if_logged(trainer: L.Trainer, before: float | None) -> float | None:
    """Return the loss of a step whose figures are read anyway, else the one ``before``."""
    return _loss_of(trainer, before) if trainer.training and logs_now(trainer) else before


def _loss_of(trainer: L.Trainer, before: float | None) -> float | None:
    loss = trainer.callback_metrics.get(LOSS)
    return before if loss is None else float(loss)


def _steps(trainer: L.Trainer) -> int | None:
    """Steps of the whole run, or None where only time or nothing limits it."""
    # Estimating needs the loader and is done once by Lightning anyway.
    total = trainer.max_steps if trainer.max_steps > 0 else trainer.estimated_stepping_batches
    return int(total) if math.isfinite(total) else None
