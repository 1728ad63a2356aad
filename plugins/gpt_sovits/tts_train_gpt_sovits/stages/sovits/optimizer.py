"""The optimisers of the stages ``sovits`` and ``cfm``: the released states' groups, schedule, and loss scale."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

TEXT_PARTS = ("content_encoder.text_embedding.", "content_encoder.text_encoder.", "content_encoder.fusion.")
"""What learns at the text rate, in the order of the groups."""
BETAS, EPSILON, WEIGHT_DECAY = (0.8, 0.99), 1e-9, 0.01


def parameter_groups(network: nn.Module, *, lr: float, text_lr_factor: float = 0.4) -> list[dict[str, Any]]:
    """Return the groups for AdamW: everything else at ``lr``, then each text part at ``lr * text_lr_factor``.

    Frozen parameters are left out. The order of groups and parameters is that of the released training files.
    """
    # An optimiser's state names parameters by their place alone: another order would load upstream's moments onto other
    # tensors.
    groups: list[dict[str, Any]] = [{"params": [], "lr": lr}]
    groups += [{"params": [], "lr": lr * text_lr_factor} for _ in TEXT_PARTS]
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[_group(name)]["params"].append(parameter)
    return groups


def adamw(parameters: Iterable[nn.Parameter] | list[dict[str, Any]], *, lr: float) -> torch.optim.AdamW:
    """Return upstream's AdamW in torch's fused form; group rates come before ``lr``."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, betas=BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY, fused=True)
    # The fused step could undo a loss scale itself; told otherwise, the scaler does it before gradients are looked at.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def by_epoch(optimizer: torch.optim.Optimizer, *, decay: float, steps_per_epoch: int, done: int = 0) -> LambdaLR:
    """Return the schedule that multiplies each rate by ``decay`` once for every epoch begun, the first included.

    It is a function of the step alone, stepped once a batch, so that a continued run is on the same curve.

    Args:
        optimizer: What it sets the rates of.
        decay: Factor of an epoch.
        steps_per_epoch: Batches of an epoch.
        done: Epochs that are counted as done before the first step.
    """
    # Upstream's first epoch is at the decayed rate already, since it counts from 1. Its continued runs decay twice;
    # these do not.
    return LambdaLR(optimizer, lambda step: decay ** (1 + done + step // steps_per_epoch))


def _group(name: str) -> int:
    return next((i for i, part in enumerate(TEXT_PARTS, 1) if name.startswith(part)), 0)


class BatchScaler(GradScaler):
    """A gradient scaler that judges a batch once, after the last of its optimisers has stepped.

    torch's own is updated after each optimiser, so with two of them the scale falls and grows twice a batch. It also
    reads on the host whether gradients overflowed; here a fused optimiser is told by its ``found_inf`` and leaves the
    step out on the device, and the steps left out are counted there.

    Args:
        like: The scaler that it stands in for, before its first use.
        optimizers: Optimisers that step in each batch.
    """

    def __init__(self, like: GradScaler, optimizers: int) -> None:
        super().__init__(
            like._device,
            init_scale=like._init_scale,
            growth_factor=like.get_growth_factor(),
            backoff_factor=like.get_backoff_factor(),
            growth_interval=like.get_growth_interval(),
            enabled=like.is_enabled(),
        )
        self._optimizers = optimizers
        self._stepped = 0
        self._skipped: Tensor | float = 0.0

    def figures(self) -> dict[str, Tensor]:
        """Return the scale, and the optimiser steps that were left out since the run began, on the device."""
        scale = self._get_scale_async()
        if scale is None:
            return {}
        return {"loss_scale": scale.detach().clone(), "skipped_steps": scale.new_zeros(()) + self._skipped}

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> float | None:  # noqa: ANN401 - as torch
        """Step an optimiser, or leave its step out if its gradients overflowed."""
        self._stepped += 1
        return super().step(optimizer, *args, **kwargs)

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Let the scale fall or grow, if this was the batch's last optimiser."""
        if new_scale is not None or self._stepped >= self._optimizers:
            self._stepped = 0
            super().update(new_scale)

    def state_dict(self) -> dict[str, Any]:
        """Return the scale, its growth and the count of steps left out."""
        return {**super().state_dict(), "skipped_steps": float(self._skipped)} if self.is_enabled() else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up :meth:`state_dict`, or that of torch's scaler."""
        super().load_state_dict(state_dict)
        self._skipped = state_dict.get("skipped_steps", 0.0)

    def _maybe_opt_step(
        self,
        optimizer: Optimizer,
        optimizer_state: dict[str, Any],
        *args: Any,  # noqa: ANN401 - as torch
        **kwargs: Any,  # noqa: ANN401 - as torch
    ) -> float | None:
        if not all(group.get("fused") for group in optimizer.param_groups):
            return super()._maybe_opt_step(optimizer, optimizer_state, *args, **kwargs)
        found = torch.stack(list(optimizer_state["found_inf_per_device"].values())).amax()
        flagged = getattr(optimizer, "found_inf", None)  # of a guard that has judged the loss
        self._skipped = self._skipped + found
        optimizer.found_inf = found if flagged is None else torch.maximum(found, flagged)  # type: ignore[attr-defined]
        try:
            done: float | None = optimizer.step(*args, **kwargs)
        finally:
            optimizer.found_inf = None  # type: ignore[attr-defined]
        return done


def scale_by_batch(trainer: Trainer, optimizers: int) -> None:
    """Put a :class:`BatchScaler` in the place of a trainer's scaler, where it has one; before checkpoints are read."""
    plugin = trainer.precision_plugin
    scaler = getattr(plugin, "scaler", None)
    if isinstance(scaler, GradScaler) and not isinstance(scaler, BatchScaler):
        plugin.scaler = BatchScaler(scaler, optimizers)  # type: ignore[attr-defined]


def scale_figures(trainer: Trainer) -> dict[str, Tensor]:
    """Return what to log of a trainer's loss scale; empty where there is none."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler.figures() if isinstance(scaler, BatchScaler) else {}
