"""The processes of a run: which of them this is; and all fail where one of them fails, instead of waiting for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Trainer
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule

from tts_train.errors import ConfigError, DiskError, Interrupted, NumericError, TTSTrainError


def leads() -> bool:
    """Tell whether this is the first process of a run, the one that writes and speaks.

    It holds before Lightning has launched the others, too: launchers tell rank and node by the environment.
    """
    # As Lightning's LightningEnvironment reads the number of the node; torchrun sets GROUP_RANK.
    node = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return getattr(rank_zero_only, "rank", 0) == 0 and node == "0"


def launched_by_lightning() -> bool:
    """Tell whether Lightning itself started this process beside the first one."""
    foreign = {"TORCHELASTIC_RUN_ID", "SLURM_PROCID"} & set(os.environ)
    return not leads() and not foreign


_KINDS: tuple[type[TTSTrainError], ...] = (ConfigError, NumericError, DiskError, Interrupted)
_MARK = "raised_by_all"
ANOTHER = "Another process of this run met an error and says above or in its own log what it was."
"""What processes say that did not meet an error themselves."""


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Raise in every process if the block raised in one of them: its own error there, one of that kind elsewhere.

    Inside the block a process may not wait for another one after something that can fail.

    Args:
        device: where the processes' collectives run.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # noqa: BLE001 - it is raised again below, once the others know
        failure = error
    # Each process learns the worst code of all, so that those without an error of their own leave with it.
    worst = _worst(0 if failure is None else getattr(failure, "exit_code", TTSTrainError.exit_code), device)
    if failure is None and worst:
        kind = next((kind for kind in _KINDS if kind.exit_code == worst), TTSTrainError)
        failure = kind(ANOTHER)
    if failure is not None:
        vars(failure)[_MARK] = True
        raise failure


def raised_by_all(error: BaseException) -> bool:
    """Tell whether every process of the run raises an error like this one, so that none need be stopped."""
    return bool(getattr(error, _MARK, False))


def save_together(trainer: Trainer, path: Path, *, options: object = None) -> None:
    """Save the run; if one process cannot write, all of them raise. ``options`` are the checkpoint writer's.

    ``Trainer.save_checkpoint`` does the same, but leaves the others waiting for a process that failed.
    """
    checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
    with together(trainer.strategy.root_device):
        trainer.strategy.save_checkpoint(checkpoint, path, storage_options=options)


def _worst(code: int, device: torch.device) -> int:
    if not (distributed.is_available() and distributed.is_initialized()):
        return code
    shared = torch.tensor(code, device=device)
    distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
    return int(shared)


def reshard(module: nn.Module) -> None:
    """Divide again what is gathered below ``module``; nothing where nothing is sharded."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
