"""One process's share of a run: claim the directory, continue from the newest valid checkpoint, say how it ended."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from tts_train.contract.module import StageModule
from tts_train.environment import without_cudnn_attention
from tts_train.errors import ConfigError, DataError, DiskError, Interrupted, NumericError, TTSTrainError
from tts_train.parallel.together import ANOTHER, leads
from tts_train.run.checkpoint import Checkpoint, RunCard, open_checkpoint
from tts_train.run.difference import DEFAULT_IDENTITY, Change, differences, refuse_identity_changes
from tts_train.run.directory import RunDirectory, Traces
from tts_train.run.lock import RunLock
from tts_train.run.places import same_place
from tts_train.training.survive.checkpoint import CheckpointOptions, PeriodicCheckpoint
from tts_train.training.survive.continuation import ExactContinuation, SameData
from tts_train.training.survive.faults import InjectFaults
from tts_train.training.survive.finite import FiniteGuard
from tts_train.training.survive.stopping import GracefulStop, exit_code
from tts_train.training.watch.monitors import Monitors

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How torch begins to say that a process of a loader is gone.
_DEAD_WORKER = "DataLoader worker"
# How gloo says that a process of the run is gone.
_GONE = ("Connection closed by peer", "Connection reset by peer")

FINISHED, STOPPED = "finished", "stopped: "
"""What ``run.json`` says of a run that has reached its limits, and how it begins for one whose module has ended it."""

logger = logging.getLogger(__name__)

without_cudnn_attention()


class RunSession:
    """Holds a run directory from ``with`` to the end of the block.

    Entering locks the directory, removes leftovers, finds the newest valid checkpoint, and refuses a configuration
    that makes it another run; all of this before a network is built. Then :meth:`callbacks` go to the trainer, which
    also needs ``plugins=[DirectoryCheckpointIO()]`` and ``use_distributed_sampler=False``, and :meth:`fit` trains.
    Leaving writes how it ended into ``run.json``; a command that is refused before it has trained leaves no trace.

    Args:
        run: the run directory; made if it does not exist.
        card: backend, stage and resolved configuration.
        seed: the run's seed.
        identity: configuration keys that may not change, besides ``DEFAULT_IDENTITY``; prefixes cover what is below.
        record: more entries for ``run.json``, in plain types (git revision, rows in and out, data hash).
        exits: whether the process is there for this run alone, as a command's is: a third signal may end it, and
            messages say what to type rather than what to call.
    """

    def __init__(
        self,
        run: RunDirectory,
        card: RunCard,
        *,
        seed: int,
        identity: Sequence[str] = (),
        record: Mapping[str, object] | None = None,
        exits: bool = False,
    ) -> None:
        self.run = run
        self.card = card
        self.seed = seed
        self.checkpoint: Checkpoint | None = None
        """What the run continues from; None if it begins."""
        self.changes: list[Change] = []
        """Configuration keys that differ from the checkpoint's."""
        self._identity = (*DEFAULT_IDENTITY, *identity)
        self._record = dict(record or {})
        self.leads = leads()
        """Whether this process is the one that writes into the run directory."""
        self._again = "The same command continues" if exits else f"Training({str(run.path)!r}).fit() continues"
        self._stop = GracefulStop(exits=exits, again=self._again)
        self._stack = contextlib.ExitStack()
        self._traces: Traces | None = None
        self._ended: dict[str, object] = {}

    def __enter__(self) -> RunSession:
        """Claim the directory.

        Raises:
            RunLockedError: if another process holds it.
            ConfigError: if the configuration belongs to another run.
            DiskError: if the directory cannot be written.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._stop)
            self._traces = Traces(self.run)
            if self.leads:
                self.run.create()
                stack.enter_context(RunLock(self.run.lock))
                self.run.clean()
            newest = self.run.newest_valid(repair=self.leads)
            if newest is not None:
                self.checkpoint = open_checkpoint(newest)
                self._compare(self.checkpoint.card)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        taken_back = None
        with self._stack:
            if self.leads and self._traces is not None and _is_refusal(error) and not self._traces.trained:
                taken_back = self._traces
                taken_back.remove()
            elif self.leads and (self._ended or error is not None):
                entries = (
                    self._ended if error is None else {"exit_reason": reason(error), "exit_code": exit_code(error)}
                )
                with contextlib.suppress(OSError):  # a full disk must not hide the error that tells of it
                    self.run.update_record(ended=_now(), **entries)
        if taken_back is not None:
            taken_back.remove_lock()

    def callbacks(self, options: CheckpointOptions, *, inject: str | None = None) -> list[Callback]:
        """Return the callbacks that make the run survive; they go first in the trainer's list.

        Args:
            options: when to save and what to keep.
            inject: faults to cause (``--debug.inject``), for example ``kill@step=7``.

        Raises:
            ConfigError: if ``inject`` is no fault.
        """
        faults = [] if inject is None else [InjectFaults(inject, memory=self.run.path)]
        return [
            SameData(self.run, None if self.checkpoint is None else self.checkpoint.step),
            ExactContinuation(self.seed),
            self._stop,
            *faults,
            FiniteGuard(self.run.path / "nonfinite.json"),
            PeriodicCheckpoint(self.run, self.card, options, stop=self._stop),
            Monitors(options.monitor),
        ]

    def finished(self, trainer: Trainer) -> bool:
        """Tell whether this run has ended by itself before, at limits that have not been raised since."""
        record = self.run.read_record()
        reason = str(record.get("exit_reason"))
        # What stopped by itself would only do so again; other options may let it go on.
        ended = reason == FINISHED or (reason.startswith(STOPPED) and not self.changes)
        if self.checkpoint is None or not ended:
            return False
        return record.get("step") == self.checkpoint.step and record.get("limits") == _limits(trainer)

    def fit(self, trainer: Trainer, module: LightningModule, datamodule: LightningDataModule) -> int:
        """Train to the end, from where the run stands, and return the last optimiser step.

        Raises:
            Interrupted: if it was asked to stop and has saved itself.
            NumericError, DiskError: if it cannot go on; the last good checkpoint is intact.
            TTSTrainError: if a process that loads data was killed.
        """
        if self.checkpoint is not None and self.finished(trainer):
            why = str(self.run.read_record().get("exit_reason"))
            if why == FINISHED:
                logger.info(
                    "This run is finished: step %d of %s. Raise --trainer.max_steps or --trainer.max_epochs to go on.",
                    self.checkpoint.step,
                    self.run.path,
                )
            else:
                logger.warning("%s", why.removeprefix(STOPPED))
            self._ended = {"exit_reason": why, "exit_code": 0}
            return self.checkpoint.step
        self._begin(datamodule)
        path = None if self.checkpoint is None else self.checkpoint.path
        limits = _limits(trainer)  # Lightning changes what was not given when it starts
        try:
            trainer.fit(module, datamodule=datamodule, ckpt_path=path, weights_only=True)
        except (SIGTERMException, MisconfigurationException, OSError, RuntimeError) as error:
            explained = self._explained(error)
            if explained is None:
                raise
            raise explained from error
        self._ended = {
            "exit_reason": self._why_ended(module),
            "exit_code": 0,
            "step": trainer.global_step,
            "limits": limits,
        }
        return trainer.global_step

    def _why_ended(self, module: LightningModule) -> str:
        """Return why a run without an error is at its end; a module that ended it says why, and it is logged."""
        why = module.stopped if isinstance(module, StageModule) else None
        if why is None:
            return FINISHED
        # Said with the reason: what was learnt last is what nobody wanted.
        best = self.run.linked("best")
        where = (
            "There is no best checkpoint." if best is None else f"The best checkpoint is {self.run.step_path(best)}."
        )
        logger.warning("%s %s", why, where)
        return f"{STOPPED}{why} {where}"

    def _explained(self, error: BaseException) -> TTSTrainError | None:
        """Return what an error of training means to the user; None where that is not known."""
        if isinstance(error, SIGTERMException):  # Lightning's own, should it ever come first
            return Interrupted(f"Stopped by SIGTERM. {self._again} from the last checkpoint.")
        if isinstance(error, MisconfigurationException):
            return ConfigError(f"Lightning refuses these settings: {error}")
        if isinstance(error, OSError) and error.errno in _FULL:
            return DiskError(
                f"The disk of {self.run.path} is full: {error}. The last checkpoint is intact. Free some space, then: "
                f"{self._again}."
            )
        if isinstance(error, FileNotFoundError) and str(self.run.path) in str(error.filename):
            return DiskError(
                f"A file of the run was removed while it trained: {error}. Leave {self.run.path} alone; {self._again} "
                "from what checkpoints are left."
            )
        if _DEAD_WORKER in str(error):
            return TTSTrainError(
                f"A process that loads data was killed, often for want of memory: {error}. The last checkpoint is "
                f"intact. {self._again}; --data.num_workers 0 loads without such processes."
            )
        if any(words in str(error) for words in _GONE):
            return TTSTrainError(f"{ANOTHER} The last checkpoint is intact. {self._again} from it. ({error})")
        return None

    def _begin(self, datamodule: LightningDataModule) -> None:
        step = 0 if self.checkpoint is None else self.checkpoint.step
        if self.checkpoint is not None:
            logger.info("Continuing %s from step %d.", self.run.path, step)
        if self.leads:
            self.run.update_record(
                backend=self.card.backend,
                stage=self.card.stage,
                versions=dict(self.card.versions),
                git=_revision(),
                seed=self.seed,
                folder=self.card.folder,
                host=socket.gethostname(),
                pid=os.getpid(),
                started=_now(),
                ended=None,
                continued_from=step or None,
                changes=[str(change) for change in self.changes],
                exit_reason=None,
                exit_code=None,
                **self._record,
            )

    def _compare(self, before: RunCard) -> None:
        old = {**before.config, "backend": before.backend, "stage": before.stage}
        new = {**self.card.config, "backend": self.card.backend, "stage": self.card.stage}
        self.changes = [
            change
            for change in differences(old, new)
            if not any(
                same_place(change.old, base, change.new, self.card.folder)
                for base in (before.folder, str(before.project) if before.project else None)
            )
        ]
        starts = "init_from" in (self.card.config.get("model") or {})
        refuse_identity_changes(self.changes, self._identity, self.run.path, starts_from_runs=starts)
        for change in self.changes:
            logger.info("Changed since the checkpoint, and applied: --%s", change)
        for change in differences(before.versions, self.card.versions):
            logger.warning("Another version than the checkpoint's; last digits may differ: %s", change)


def _is_refusal(error: BaseException | None) -> bool:
    return isinstance(error, (ConfigError, DataError))


def reason(error: BaseException) -> str:
    """Return what ``run.json`` says about an error."""
    for kind, word in ((Interrupted, "interrupted"), (NumericError, "numeric"), (DiskError, "disk")):
        if isinstance(error, kind):
            return f"{word}: {error}"
    return f"error: {type(error).__name__}: {error}"


def _limits(trainer: Trainer) -> dict[str, int | None]:
    return {"max_steps": trainer.max_steps, "max_epochs": trainer.max_epochs}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _revision() -> str | None:
    """Return the commit of the sources if they are a git checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
