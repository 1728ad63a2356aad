"""One process of a run that fails alone: none of the others may be left waiting for it, also in a user's program.

A process of several that raises an error leaves the others in a collective that it will never join. The command ends
such a process, and with it its connections. A program that caught the error would go on, and hold them open.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer
from torch import distributed

from tts_train.errors import Interrupted, TTSTrainError
from tts_train.parallel.ranks import launched_by_lightning
from tts_train.parallel.together import ANOTHER, raised_by_all

_PATIENCE = 3.0
"""Seconds in which processes that know of the failure may end by themselves and say what they met."""

logger = logging.getLogger(__name__)


@contextmanager
def others_end_too(trainer: Trainer) -> Iterator[None]:
    """End the processes that Lightning has started from this one, if it leaves the block with an error of its own."""
    try:
        yield
    except BaseException as error:
        if not raised_by_all(error):
            _end_started(trainer)
        raise


@contextmanager
def ends_this_process(*, exits: bool) -> Iterator[None]:
    """Make an error the end of this process where it is one of several and others depend on that.

    A process that Lightning has started is there for the run alone, and always ends. One that torchrun or srun has
    started ends where it fails alone: its exit code is what makes the launcher end the others.

    Args:
        exits: Whether this process ends with the error in any case, as a command's does.
    """
    try:
        yield
    except Exception as error:
        all_know = isinstance(error, Interrupted) or raised_by_all(error)
        if launched_by_lightning():
            _tell(error)
            # Lightning kills the first process, a user's program, if one that it started ends with an error. That
            # is needed only where the first would wait: gloo's collectives fail when a process ends, NCCL's do not.
            raise SystemExit(0 if all_know or _connected_by_gloo() else exit_code(error)) from error
        if not all_know and not exits and _started_from_outside():
            _tell(error)
            raise SystemExit(exit_code(error)) from error
        raise


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error."""
    return error.exit_code if isinstance(error, TTSTrainError) else TTSTrainError.exit_code


def _tell(error: Exception) -> None:
    """Say what an error that ends this process was; nobody else will."""
    if isinstance(error, Interrupted) or ANOTHER in str(error):
        return
    logger.error("%s", error, exc_info=None if isinstance(error, TTSTrainError) else error)


def _end_started(trainer: Trainer) -> None:
    started = getattr(trainer.strategy.launcher, "procs", None)  # only of the launcher that starts scripts
    if not started:
        return
    processes = list(started)
    # Lightning's observer reads this list, and would kill this process too when one in it ends with an error.
    started.clear()
    until = time.monotonic() + _PATIENCE
    while any(process.poll() is None for process in processes) and time.monotonic() < until:
        time.sleep(0.05)
    for process in processes:
        if process.poll() is None:
            process.kill()  # no less: a process within a collective handles no signal
            process.wait()


def _connected_by_gloo() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "gloo"


def _started_from_outside() -> bool:
    """Tell whether a launcher has started this process as one of several."""
    return max(int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "SLURM_NTASKS")) > 1
