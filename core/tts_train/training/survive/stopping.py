"""Stopping well: a signal makes the run save itself, and a process that fails alone leaves none of the others waiting.

A signal is seen within the step, or within ten where processes must agree. A process of several that raises an error
leaves the others in a collective that it will never join. The command ends such a process, and with it its
connections; a program that caught the error would go on, and hold them open.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed

from tts_train.errors import Interrupted, TTSTrainError
from tts_train.parallel.processes import STOP
from tts_train.parallel.together import ANOTHER, launched_by_lightning, raised_by_all
from tts_train.run.loops import disable_sigterm_broadcast

AGREE_EVERY = 10
"""Optimiser steps, and batches of a validation, between which several processes ask each other whether to stop."""

logger = logging.getLogger(__name__)


class GracefulStop(Callback):
    """Turns the first signal into a request to stop, the second into an exception.

    Lightning handles SIGTERM by raising SystemExit after the step without saving anything; its handler is replaced
    while training. As a context manager it covers the time before and after training too, when there is nothing to
    save and the first signal raises at once.

    Args:
        exits: whether the third signal ends the process at once; else it is an exception, as the second is.
        again: What continues the run, as the beginning of a sentence.
    """

    def __init__(self, *, exits: bool = False, again: str = "The same command continues") -> None:
        self._exits = exits
        self._again = again
        self.requested: str | None = None
        """Name of the signal that asked to stop."""
        self._count = 0
        self._training = False
        self._done = 0
        self._owner = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in STOP}
            self._install()
        else:
            logger.warning("Not in the main thread: signals will not be turned into a checkpoint.")
        return self

    def __exit__(self, *_: object) -> None:
        # A notebook goes on with its own handlers.
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def agreed(self, trainer: Trainer, *, done: int, anyway: bool = False) -> bool:
        """Tell whether to stop; all ranks give the same answer, since a checkpoint needs all of them.

        Several processes ask each other every ``AGREE_EVERY`` times only: the answer waits for all that each of them
        has launched on its card.

        Args:
            trainer: the trainer.
            done: optimiser steps, or batches of a validation; the same in all ranks.
            anyway: ask now, because the ranks wait for each other here in any case.
        """
        asked = self.requested is not None
        if trainer.world_size == 1:
            return asked
        due, self._done = done // AGREE_EVERY != self._done // AGREE_EVERY, done
        if not (due or anyway):
            return False
        # One process that was asked is enough: schedulers signal some or all of them.
        return bool(trainer.strategy.reduce_boolean_decision(asked, all=False))

    def interrupted(self, trainer: Trainer, *, saved: bool) -> Interrupted:
        """Make the exception that ends the run."""
        what = f"saved at step {trainer.global_step}" if saved else "nothing was left to save"
        return Interrupted(f"Stopped by {self.requested or 'another rank'}; {what}. {self._again}.")

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning."""
        self._install()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning; from now on there is something to save."""
        self._install()
        disable_sigterm_broadcast(trainer)
        self._training = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All is saved: a signal may stop at once again."""
        self._training = False

    def _install(self) -> None:
        if self._previous:
            self._owner = os.getpid()
            for number in STOP:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            # A data worker inherits this handler, and must die when its parent says so and not from a Ctrl-C.
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self._count += 1
        self.requested = signal.Signals(number).name
        if self._count > 2 and self._exits:
            # An exception may be lost in a library's C code or be held up by a disk; three signals mean now.
            os._exit(Interrupted.exit_code)
        if self._count > 1 or not self._training:
            raise Interrupted(f"Stopped at once by {self.requested}. {self._again} from the last checkpoint.")
        logger.warning("%s: saving at the end of this step. A second signal stops at once.", self.requested)


# Seconds in which processes that know of the failure may end by themselves and say what they met.
_PATIENCE = 3.0


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
        # The first process of a further machine counts as launched, and is a user's program all the same.
        if launched_by_lightning() and (all_know or os.environ.get("LOCAL_RANK", "0") != "0"):
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
    # They may have failed first, and are on their way out with something to say.
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
    """Tell whether torchrun or srun has started this process as one of several."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ.get("WORLD_SIZE", "1")) > 1
    # A batch job has SLURM's variables without srun too: there it is one process that joins no group.
    joined = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    return "SLURM_PROCID" in os.environ and joined
