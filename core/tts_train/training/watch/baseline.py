"""Where the base model stands before the first step, so that every later figure has something to be compared with."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


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
