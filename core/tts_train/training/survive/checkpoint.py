"""When a run is saved: every so many steps, on the best validation, when asked to stop, and at the end."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from tts_train.checkpoints.folder_io import LATER, DirectoryCheckpointIO, read_manifest
from tts_train.contract.data import remembered
from tts_train.errors import ConfigError
from tts_train.parallel.together import save_together, together
from tts_train.run.checkpoint import CARD_KEY, RunCard
from tts_train.run.directory import RunDirectory
from tts_train.run.loops import (
    Validation,
    describe_boundary,
    is_last_step,
    mid_accumulation,
    share_batches,
    validation_due,
)
from tts_train.training.survive.stopping import AGREE_EVERY, GracefulStop

_RANKS = "world_size"

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class CheckpointOptions:
    """How often a run is saved and what stays."""

    every_n_steps: int = 500
    """Optimiser steps between checkpoints; a killed run loses at most so many, and those made during a save."""
    keep: int = 3
    """How many of the newest valid checkpoints stay (at least 2); the best one stays besides."""
    monitor: str | None = "val/loss"
    """Logged figure by which ``checkpoints/best`` is chosen; null for no best."""
    mode: Literal["min", "max"] = "min"
    """Whether a lower (min) or a higher (max) figure is better."""

    def __post_init__(self) -> None:
        if self.every_n_steps < 1:
            raise ConfigError(f"--checkpoint.every_n_steps must be at least 1, and {self.every_n_steps} was given.")
        if self.keep < 2:
            raise ConfigError(
                f"--checkpoint.keep must be at least 2, so that a damaged checkpoint has a predecessor; "
                f"{self.keep} was given."
            )
        if self.monitor is not None and not self.monitor.strip():
            raise ConfigError("--checkpoint.monitor takes a figure's name, such as val/loss, or null; '' was given.")
        if self.mode not in ("min", "max"):
            raise ConfigError(f"--checkpoint.mode must be min or max, and {self.mode!r} was given.")


class PeriodicCheckpoint(Checkpoint):
    """Saves the run at optimiser steps, and puts the run card into each checkpoint.

    Checkpoints are made in ``on_train_batch_end``, before a validation of the same step: a crash in validation
    loses nothing, and a continued run validates first. Never between accumulated batches. Where one process holds the
    whole run, a checkpoint in the middle of it is copied to host memory and written beside training; the next save, the
    end and an interruption wait for it, and what failed is raised at the end of the next step.

    Args:
        run: where checkpoints go.
        card: what the run says about itself.
        options: when to save and what to keep.
        stop: tells when the run was asked to stop; None: never.
    """

    def __init__(
        self, run: RunDirectory, card: RunCard, options: CheckpointOptions, *, stop: GracefulStop | None = None
    ) -> None:
        self.run = run
        self.card = card
        self.options = options
        self._stop = stop
        self._saved: int | None = None
        self._later: DirectoryCheckpointIO | None = None
        self._polled = 0
        self._validation: Validation | None = None
        self._ended = False
        self._best: dict[str, Any] = {"score": None, "step": None}
        self._metrics: dict[str, torch.Tensor] = {}
        self._missing_told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the disk before the first step, and take up what the checkpoint knew."""
        self._saved = trainer.global_step or None
        self._later = _writes_beside(trainer)
        trainer.callback_metrics.update(self._metrics)
        size = self._size(trainer)  # in every process: asking a sharded network for its state changes how it lies
        with together(trainer.strategy.root_device):
            if trainer.is_global_zero:
                self._restore_best()
                # Asked for at the start, and not when the disk is full.
                kept = self.options.keep + 2  # the best one, and the one being written
                have = sum(_bytes(self.run, step) for step in self.run.steps())
                self.run.check_space(max(size * kept - have, size), purpose=f"Room for {kept} checkpoints")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save if it is time, and stop if that was asked.

        Raises:
            Interrupted: after saving, if the run was asked to stop.
        """
        if mid_accumulation(trainer):
            return
        every, step = self.options.every_n_steps, trainer.global_step
        # Counted from multiples, not from the last save: continued runs save at the same steps as others.
        due = step // every > (self._saved or 0) // every or is_last_step(trainer)
        # Before the next save hides it: a write beside training has nobody else to tell.
        self._raise_failed(trainer)
        stopping = self._stop is not None and self._stop.agreed(trainer, done=step, anyway=due)
        if stopping or due:
            # At the end there is nothing to do beside, and the process must not end before its file is whole.
            beside = not (stopping or is_last_step(trainer))
            self._save(trainer, Validation.DUE if validation_due(trainer) else Validation.NONE, beside=beside)
        if stopping and self._stop is not None:
            raise self._stop.interrupted(trainer, saved=True)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop in the middle of a validation if that was asked; it is run again when the run continues.

        Raises:
            Interrupted: after saving, if the run was asked to stop.
        """
        if self._stop is None or trainer.sanity_checking or not self._stop.agreed(trainer, done=batch_idx + 1):
            return
        if trainer.state.fn == "fit" and not mid_accumulation(trainer):
            self._save(trainer, Validation.DUE)
        self._settle(trainer)
        raise self._stop.interrupted(trainer, saved=self._saved == trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the step if no validation before was as good."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or self.options.monitor is None:
            return
        if mid_accumulation(trainer) or not self._improved(trainer.callback_metrics):
            return
        self._best["step"] = trainer.global_step
        self._save(trainer, Validation.DONE, beside=True)
        self._afterwards(trainer, "best")  # the one that was best until now may go

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end, if early stopping or a time limit set it."""
        if trainer.global_step:
            self._ended = True
            self._save(trainer, Validation.DONE if validation_due(trainer) else Validation.NONE)
        self._settle(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let what is being written become whole; an error of its own does not hide the one that ends the run."""
        if self._later is not None:
            try:
                self._later.finish()
            except Exception as error:  # noqa: BLE001 - told, while the other one goes on
                logger.error("%s", error)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put in the run card, and say at which boundary the loops stand."""
        checkpoint[CARD_KEY] = self.card.knowing(remembered(trainer)).as_dict()
        checkpoint[_RANKS] = trainer.world_size
        if self._validation is not None:
            describe_boundary(checkpoint, trainer, self._validation, ended=self._ended)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on at the same batch of the epoch with another number of processes."""
        share_batches(checkpoint, before=checkpoint.get(_RANKS, trainer.world_size), now=trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        """Return the best step and the figures last logged, which early stopping asks for at an epoch's end."""
        return {"best": dict(self._best), "metrics": self._metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up :meth:`state_dict`."""
        self._best = dict(state_dict["best"])
        self._metrics = dict(state_dict["metrics"])

    def _save(self, trainer: Trainer, validation: Validation, *, beside: bool = False) -> None:
        step = trainer.global_step
        # A step is saved once, whether it is due, the best and the last or only one of these.
        if self._saved == step:
            return
        self._settle(trainer)
        size = self._size(trainer)
        with together(trainer.strategy.root_device):
            if trainer.is_global_zero:
                self.run.check_space(size, purpose=f"The checkpoint of step {step}")
        # Early stopping asks for them at an epoch's end that may come right after a continuation.
        self._metrics = {name: torch.as_tensor(value) for name, value in trainer.callback_metrics.items()}
        self._validation = validation
        try:
            options = LATER if beside and self._later is not None else None
            save_together(trainer, self.run.step_path(step), options=options)
        finally:
            self._validation = None
        self._saved = step
        self._afterwards(trainer, "last")

    def _afterwards(self, trainer: Trainer, name: str) -> None:
        """Point a link at the step that was saved last, once it is whole, and remove old ones."""
        step = trainer.global_step

        def publish() -> None:
            self.run.link(name, step)
            self.run.rotate(self.options.keep)

        if self._later is None:
            with together(trainer.strategy.root_device):
                if trainer.is_global_zero:
                    publish()
        elif trainer.is_global_zero:
            # One queue, in order: a link is set only behind the files that it points at.
            self._later.writes.submit(publish)

    def _settle(self, trainer: Trainer) -> None:
        """Wait for what is being written; all processes raise if the disk refused it."""
        if self._later is not None:
            with together(trainer.strategy.root_device):
                if trainer.is_global_zero:
                    self._later.writes.wait()

    def _raise_failed(self, trainer: Trainer) -> None:
        """Raise what a write has failed with so far; several processes ask each other now and then."""
        step, before = trainer.global_step, self._polled
        # Asking is a collective, which waits for what all cards have been given.
        if self._later is None or (trainer.world_size > 1 and step // AGREE_EVERY == before // AGREE_EVERY):
            return
        self._polled = step
        with together(trainer.strategy.root_device):
            if trainer.is_global_zero:
                self._later.writes.poll()

    def _improved(self, metrics: Mapping[str, Any]) -> bool:
        name = self.options.monitor or ""
        if name not in metrics:
            if not self._missing_told:
                self._missing_told = True
                logger.warning(
                    "--checkpoint.monitor %s is not logged, so there is no best checkpoint. Logged are: %s.",
                    name,
                    ", ".join(sorted(metrics)) or "none",
                )
            return False
        score, best = float(metrics[name]), self._best["score"]
        better = best is None or (score < best if self.options.mode == "min" else score > best)
        # NaN compares as neither better nor worse, and infinity would never be beaten under max.
        if math.isfinite(score) and better:
            self._best["score"] = score
            return True
        return False

    def _restore_best(self) -> None:
        """Set ``best`` as this state knows it: a kill may have come between a checkpoint and its link."""
        step = self._best["step"]
        if step is not None and self.run.step_path(step).is_dir():
            self.run.link("best", step)
        else:
            (self.run.checkpoints / "best").unlink(missing_ok=True)

    def _size(self, trainer: Trainer) -> int:
        """Bytes of the next checkpoint: those of the last one, or weights and what optimisers will hold."""
        weights: int = sum(t.numel() * t.element_size() for t in trainer.lightning_module.state_dict().values())
        steps = self.run.steps() if trainer.is_global_zero else []
        # A checkpoint is as large as the one before it, but for a few bytes of JSON.
        if steps:
            return _bytes(self.run, steps[-1])
        return weights + sum(_optimizer_bytes(optimizer) for optimizer in trainer.optimizers)


def _writes_beside(trainer: Trainer) -> DirectoryCheckpointIO | None:
    """Return what can write while training goes on; sharded networks are gathered by all processes, which then wait."""
    writer = trainer.strategy.checkpoint_io
    whole = isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))
    return writer if whole and isinstance(writer, DirectoryCheckpointIO) else None


def _bytes(run: RunDirectory, step: int) -> int:
    return int(sum(file["size"] for file in read_manifest(run.step_path(step))["files"].values()))


def _optimizer_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Two moments for each trained value, as Adam has; one byte each where the optimiser says it keeps 8 bits."""
    eight_bit = getattr(getattr(optimizer, "args", None), "optim_bits", 32) == 8
    trained = (p for group in optimizer.param_groups for p in group["params"] if p.requires_grad)
    return sum(2 * p.numel() * (1 if eight_bit else p.element_size()) for p in trained)
