"""Faults on purpose (``--debug.inject``): the proof that a run survives them ships with the product."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.errors import ConfigError
from tts_train.parallel.processes import kill_this_process

_SPELLING = re.compile(r"(kill|term|nan)@(step|save)=(\d+)")
_HELP = "kill@step=N, term@step=N, nan@step=N, or kill@save=K (after the K-th file a checkpoint writes)"


@dataclass(frozen=True)
class Fault:
    """One fault: what happens, and when."""

    action: str
    """``kill`` (-9), ``term`` (SIGTERM) or ``nan`` (a gradient becomes NaN)."""
    point: str
    """``step`` or ``save``."""
    number: int
    """The optimiser step during which it happens, or the how-manieth file written."""

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read ``action@point=number``.

        Raises:
            ConfigError: naming the spellings there are.
        """
        match = _SPELLING.fullmatch(text.strip())
        if not match or (match[2] == "save" and match[1] != "kill") or int(match[3]) < 1:
            raise ConfigError(f"--debug.inject {text!r} is not a fault. Choose {_HELP}, with a number from 1.")
        return cls(match[1], match[2], int(match[3]))


class InjectFaults(Callback):
    """Makes faults happen; each once for a run directory, so that the same command gets past it afterwards.

    Args:
        faults: spelt ``kill@step=7``; several are separated by commas.
        memory: folder in which it is noted that a fault has happened; None: it happens in every process.
    """

    def __init__(self, faults: str, *, memory: Path | None = None) -> None:
        self.faults = [Fault.parse(text) for text in faults.split(",")]
        self._memory = memory
        self._files = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to the files of checkpoints.

        Raises:
            ConfigError: if checkpoints are written by something else.
        """
        if any(fault.point == "save" for fault in self.faults):
            writer = trainer.strategy.checkpoint_io
            if not isinstance(writer, DirectoryCheckpointIO):
                raise ConfigError(f"--debug.inject kill@save does not work with {type(writer).__name__}.")
            writer.after_write = self._after_write

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Put NaN into a gradient."""
        for fault in self._due("step", trainer.global_step + 1, "nan"):
            grads = (p.grad for group in optimizer.param_groups for p in group["params"])
            next(grad for grad in grads if grad is not None).fill_(float("nan"))
            self._note(fault)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Send signals, before the step is saved, and when the one before is whole."""
        for fault in self._due("step", trainer.global_step, "kill", "term"):
            if isinstance(writer := trainer.strategy.checkpoint_io, DirectoryCheckpointIO):
                # The test says what a kill may cost: the checkpoint before must be there, also on a slow disk.
                writer.writes.wait()
            self._note(fault)
            if fault.action == "kill":
                kill_this_process()
            signal.raise_signal(signal.SIGTERM)  # os.kill would end the process under Windows

    def _after_write(self, _: Path) -> None:
        self._files += 1
        for fault in self._due("save", self._files, "kill"):
            self._note(fault)
            kill_this_process()

    def _due(self, point: str, number: int, *actions: str) -> list[Fault]:
        # Noted on disk rather than in memory: the process that goes on is another one.
        wanted = [f for f in self.faults if (f.point, f.number) == (point, number) and f.action in actions]
        return [fault for fault in wanted if not ((mark := self._mark(fault)) and mark.exists())]

    def _mark(self, fault: Fault) -> Path | None:
        name = f".injected-{fault.action}@{fault.point}={fault.number}"
        return None if self._memory is None else self._memory / name

    def _note(self, fault: Fault) -> None:
        if (mark := self._mark(fault)) is not None:
            mark.touch()
