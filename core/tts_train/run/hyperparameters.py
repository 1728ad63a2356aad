"""Changed learning rates and other hyperparameters: what the user configures now wins over the checkpoint.

A checkpoint restores optimisers and schedules as they were, and with them the old learning rate. To tell what the
user changed from what training changed, each checkpoint holds the hyperparameters as they were configured at the
start of its process. What is configured differently now is applied; all else continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch.optim.lr_scheduler import LambdaLR

_PROGRESS = frozenset(
    {"last_epoch", "_step_count", "_last_lr", "lr_lambdas", "_is_initial", "_get_lr_called_within_step"}
)


def configured(optimizers: Sequence[torch.optim.Optimizer], schedulers: Sequence[Any]) -> dict[str, Any]:
    """Return the plain hyperparameters of new optimisers and schedulers.

    ``lr`` is left out where a scheduler keeps the configured one as ``initial_lr``.
    """
    groups = [[_plain(group, {"params"}) for group in optimizer.param_groups] for optimizer in optimizers]
    for group in (group for optimizer in groups for group in optimizer):
        if "initial_lr" in group:
            del group["lr"]
    return {"groups": groups, "schedulers": [_plain(scheduler.state_dict(), _PROGRESS) for scheduler in schedulers]}


def apply_changes(
    optimizers: Sequence[torch.optim.Optimizer],
    schedulers: Sequence[Any],
    *,
    before: dict[str, Any],
    now: dict[str, Any],
) -> Iterator[str]:
    """Set what is configured differently now in restored optimisers and schedulers, and name each change."""
    for i, optimizer in enumerate(optimizers):
        for j, group in enumerate(optimizer.param_groups):
            for name, old, new in _differences(_at(before["groups"], i, j), now["groups"][i][j]):
                if name == "initial_lr" and old:
                    group["lr"] = group["lr"] / old * new  # exact schedules are computed anew below
                group[name] = new
                yield f"{name} of parameter group {j} of optimiser {i} from {old} to {new}"
    for i, scheduler in enumerate(schedulers):
        for name, old, new in _differences(_at(before["schedulers"], i), now["schedulers"][i]):
            setattr(scheduler, name, new)
            yield f"{name} of schedule {i} from {old} to {new}"
        _recompute(scheduler)


def _recompute(scheduler: Any) -> None:  # noqa: ANN401 - schedulers share no useful base class
    """Set the rate that a schedule has now.

    A LambdaLR's functions are in no checkpoint, and so are always the new ones; unchanged ones give the same bits.
    """
    if not isinstance(scheduler, LambdaLR):
        return
    for group, base, function in zip(
        scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
    ):
        group["lr"] = base * function(scheduler.last_epoch)
    scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]


def _plain(values: dict[str, Any], without: set[str] | frozenset[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in without and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _at(values: Any, *indices: int) -> dict[str, Any]:  # noqa: ANN401 - nested lists
    for index in indices:
        if index >= len(values):
            return {}
        values = values[index]
    return cast("dict[str, Any]", values)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name, new in now.items():
        if name in before and before[name] != new:
            yield name, before[name], new
