"""Gradients are dropped as soon as a step has used them, not after the next batch's forward."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class DropGradients(Callback):
    """Makes the room of the gradients free for the next forward's activations.

    Lightning drops them between forward and backward of the next batch, so until then they lie beside its activations.
    Nothing reads them meanwhile and no checkpoint holds them, so no result changes. A stage that steps by itself is
    left alone, and so are gradients that are still being accumulated.
    """

    def __init__(self) -> None:
        self._steps = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Note the step, to see whether the batch ends one."""
        self._steps = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: object,
        batch_idx: int,
    ) -> None:
        """Drop them if a step was made."""
        if pl_module.automatic_optimization and trainer.global_step != self._steps:
            for optimizer in trainer.optimizers:
                pl_module.optimizer_zero_grad(trainer.current_epoch, batch_idx, optimizer)
