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

from tts_train.errors import ConfigError

# What a schedule's state_dict holds besides settings: where it stands, and its functions.
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
    return {
        "optimizers": [_kind(optimizer) for optimizer in optimizers],
        "sizes": [[len(group["params"]) for group in optimizer.param_groups] for optimizer in optimizers],
        "groups": groups,
        "schedulers": [_plain(scheduler.state_dict(), _PROGRESS) for scheduler in schedulers],
    }


def refuse_other_optimizers(*, before: dict[str, Any], now: dict[str, Any], run: str) -> None:
    """Refuse to go on with optimisers that cannot take up the states of those before.

    Args:
        before: what :func:`configured` returned when the checkpoint's process began.
        now: what it returns now.
        run: the run directory, for the message.

    Raises:
        ConfigError: saying what trained the checkpoint, what would go on, and what to type.
    """
    known = [name for name in ("optimizers", "sizes") if name in before]  # older checkpoints have the groups alone
    alike = all(before[name] == now[name] for name in known)
    if alike and [len(groups) for groups in before["groups"]] == [len(groups) for groups in now["groups"]]:
        return
    raise ConfigError(
        f"The checkpoint was trained by {_spelt(before)}, and these settings make {_spelt(now)}, which cannot take up "
        "its states. Set the optimiser and what is trained back to continue, or begin a new run from the weights: "
        f"--run_dir {run}-2 --model.init_from {run}"
    )


def _kind(optimizer: torch.optim.Optimizer) -> str:
    """Return what sort of states an optimiser keeps; where they lie does not matter."""
    return str(getattr(optimizer, "kind", type(optimizer).__name__.lower()))


def _spelt(configuration: dict[str, Any]) -> str:
    kinds = configuration.get("optimizers", ["an optimiser"] * len(configuration["groups"]))
    counts = configuration.get("sizes", [[None] * len(groups) for groups in configuration["groups"]])
    return " and ".join(f"{kind} ({_groups(sizes)})" for kind, sizes in zip(kinds, counts, strict=True)) or "nothing"


def _groups(sizes: Sequence[int | None]) -> str:
    of = f" of {', '.join(map(str, sizes))} tensors" if None not in sizes else ""
    return f"{len(sizes)} parameter group{'s' if len(sizes) > 1 else ''}{of}"


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
            # Attributes, as load_state_dict sets them: schedulers have no other way to change a setting.
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
    # What loggers read until the next step of the schedule.
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
