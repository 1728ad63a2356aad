"""Whether a card really takes what the plan says it does: two steps on it, without data."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from tts_train.contract.data import StageData
from tts_train.memory.step.gradients import DropGradients
from tts_train.memory.step.step import SETTINGS, itself
from tts_train.run.loops import leave_signals_alone

# The first step makes the optimiser's states, so only the second has everything at once.
_STEPS = 2


def takes_a_step(module: LightningModule, data: StageData, trainer: Mapping[str, Any], size: int) -> bool:
    """Take two optimiser steps on a made-up batch of ``size`` on this machine's accelerator.

    Nothing of it is left on the accelerator: weights, gradients and the optimisers' states are let go of before the
    trainer would move some of them to host memory.

    Args:
        module: Freshly built; it has no weights afterwards.
        data: Makes the batch.
        trainer: Values of ``--trainer.*``.
        size: Of the batch.

    Returns:
        False if that runs out of memory; the second step is the first that has gradients and states from before.
    """
    settings = {name: trainer[name] for name in SETTINGS if trainer.get(name) is not None}
    each = int(settings.get("accumulate_grad_batches", 1))
    runner = Trainer(
        accelerator=str(trainer.get("accelerator", "auto")),
        devices=1,
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        callbacks=[DropGradients(), _LetGo()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )
    leave_signals_alone(runner)
    batches: Any = [data.sample_batch(size)] * (_STEPS * each)
    loader: DataLoader[Any] = DataLoader(batches, batch_size=None, collate_fn=itself)
    # The run that follows draws what it would have drawn without a try.
    with torch.random.fork_rng():
        try:
            runner.fit(module, train_dataloaders=loader)
        except torch.OutOfMemoryError:
            return False
        finally:
            _let_go(runner, module)
            # The trainer and its parts refer to each other, and an error's frames to what they worked on.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return True


class _LetGo(Callback):
    """Lets go of weights and states when the steps are over, or one did not fit."""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let go before the strategy moves the module to host memory."""
        _let_go(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go where a step failed."""
        _let_go(trainer, pl_module)


def _let_go(trainer: Trainer, module: nn.Module) -> None:
    for optimizer in trainer.optimizers:
        # Lightning's teardown would otherwise copy gigabytes of states to host memory, only to drop them.
        optimizer.state.clear()
        optimizer.param_groups.clear()
    for part in module.modules():
        for kept in (part._parameters, part._buffers):
            for name, tensor in kept.items():
                if tensor is not None:
                    tensor.grad = None
                kept[name] = None
