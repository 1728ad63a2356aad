"""Progress of training on stderr: a bar on a terminal, else a line every ten seconds."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from tts_train.callbacks.throughput import WORK, Throughput
from tts_train.progress import LINE_EVERY_S, Pace, describe, is_terminal, write_line
from tts_train.run.loops import logs_now

LOSS = "train/loss"
"""What modules log their training loss as."""

_TOKENS = WORK["tokens"]


def progress_bar() -> ProgressBar:
    """Return the progress display that fits stderr; pass it to the trainer's callbacks. Stdout stays clean."""
    return Bar() if is_terminal() else ProgressLines()


class Bar(RichProgressBar):
    """A bar on a terminal, with the training loss of the last step that logged.

    Modules log without ``prog_bar=True``, with which Lightning reads a value at the end of every batch: on a card the
    host would wait there for everything that it has launched.
    """

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})
        self._loss: float | None = None

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return what stands beside the bar; the loss is read where the step logs."""
        self._loss = _loss_if_logged(trainer, self._loss)
        shown = super().get_metrics(trainer, pl_module)
        return shown if self._loss is None else {**shown, LOSS: self._loss}


class ProgressLines(ProgressBar):
    """Write a line such as ``Training: 120/400 (30 %), 3 min 20 s left, loss 2.31, 8028 tokens/s`` every ten seconds.

    The loss is what the module logged as ``train/loss`` in the last step whose figures were read; tokens/s come from a
    :class:`Throughput` among the callbacks.
    """

    def __init__(self, *, every_s: float = LINE_EVERY_S) -> None:
        super().__init__()
        self._every_s = every_s
        self._pace = Pace(every_s=every_s)
        self._enabled = True
        self._loss: float | None = None

    def enable(self) -> None:
        """Write lines; Lightning calls this on the first process."""
        self._enabled = True

    def disable(self) -> None:
        """Write no lines; Lightning calls this on all processes but the first."""
        self._enabled = False

    def print(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Write what a module prints to stderr instead of stdout."""
        if self._enabled:
            write_line(" ".join(map(str, args)))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start to measure the time that is left."""
        self._pace = Pace(done=trainer.global_step, every_s=self._every_s)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Write a line when one is due."""
        self._loss = _loss_if_logged(trainer, self._loss)
        if self._enabled and self._pace.due():
            write_line(self._line(trainer))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the validation loss as soon as it is known."""
        loss = trainer.callback_metrics.get("val/loss")
        if self._enabled and loss is not None and not trainer.sanity_checking:
            write_line(f"Validation at step {trainer.global_step}: loss {float(loss):.4g}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the last line."""
        self._loss = _loss_of(trainer, self._loss)
        if self._enabled:
            write_line(self._line(trainer))

    def _line(self, trainer: L.Trainer) -> str:
        step, total = trainer.global_step, _steps(trainer)
        parts = [describe("Training", step, total, self._pace.left_s(step, total) if step != total else None)]
        parts += [f"loss {self._loss:.4g}"] if self._loss is not None else []
        speeds = [callback.latest for callback in trainer.callbacks if isinstance(callback, Throughput)]  # type: ignore[attr-defined]
        parts += [f"{speed[_TOKENS]:.0f} tokens/s" for speed in speeds if _TOKENS in speed]
        return ", ".join(parts)


def _loss_if_logged(trainer: L.Trainer, before: float | None) -> float | None:
    """Return the loss of a step whose figures are read anyway, else the one ``before``."""
    return _loss_of(trainer, before) if trainer.training and logs_now(trainer) else before


def _loss_of(trainer: L.Trainer, before: float | None) -> float | None:
    loss = trainer.callback_metrics.get(LOSS)
    return before if loss is None else float(loss)


def _steps(trainer: L.Trainer) -> int | None:
    """Steps of the whole run, or None where only time or nothing limits it."""
    total = trainer.max_steps if trainer.max_steps > 0 else trainer.estimated_stepping_batches
    return int(total) if math.isfinite(total) else None
