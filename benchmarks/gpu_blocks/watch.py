"""A callback that measures a run of ``tts-train fit`` without waiting for the device inside a step, and ends it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tts_train.contract.module import StageModule
from tts_train.errors import TTSTrainError

GIB = 1024**3
WARM = 3
"""Batches that no figure counts."""


class EnoughError(TTSTrainError):
    """Ends a run that has been measured, so that it saves nothing."""

    exit_code: ClassVar[int] = 0


@dataclass
class Measured:
    """What was asked of a run, and what was seen."""

    last: int | None = None
    """The batch after which the run ends; None lets it come to its own end."""
    warm: int = WARM
    losses: bool = False
    """Whether each batch's losses are kept (on the device, and read at the end)."""
    at_start: Callable[[Trainer, LightningModule], None] | None = None
    before: Callable[[int, Trainer, LightningModule], None] | None = None
    after: Callable[[int, Trainer, LightningModule], None] | None = None
    """Called with the number of the batch, from 1."""
    batches: int = 0
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    """Host clock at each batch's start and end."""
    work: float = 0.0
    documents: int = 0
    timed_work: Any = 0.0
    seconds: float = 0.0
    """From the end of batch ``warm`` to that of ``last``, by the device's clock."""
    kept: list[dict[str, Any]] = field(default_factory=list)
    peak_bytes: int = 0
    """Tensors at the peak, after the first step."""
    reserved_bytes: int = 0
    used_bytes: int = 0
    """What the driver says is in use on the card at the end, the context included."""
    module: Any = None
    trainer: Any = None
    called: float = 0.0
    started: float = 0.0
    over: float = 0.0
    """Host clock when the command was called, when training began, and when the command was over."""

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of the whole command: until training began, its first batch, the other batches, and to the end."""
        if not self.ended:
            return {"all": round(self.over - self.called, 1)}
        marks = [self.called, self.started, self.ended[0], self.ended[-1], self.over]
        names = ("start", "first batch", "others", "end")
        return {name: round(marks[i + 1] - marks[i], 1) for i, name in enumerate(names)}

    @property
    def speed(self) -> float:
        """Units of work a second: tokens where the stage counts them, else batches."""
        return float(self.timed_work) / max(self.seconds, 1e-9)

    def read_losses(self) -> list[dict[str, float]]:
        """Return each batch's losses as numbers."""
        return [{name: float(value) for name, value in each.items()} for each in self.kept]


CURRENT = Measured()


class Watch(Callback):
    """Fills ``CURRENT``; given to a run by ``--trainer.callbacks``."""

    def __init__(self) -> None:
        self._begin: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the run's own preparations begin."""
        CURRENT.module, CURRENT.trainer, CURRENT.started = pl_module, trainer, time.perf_counter()
        if CURRENT.at_start is not None:
            CURRENT.at_start(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note when the batch began."""
        CURRENT.begun.append(time.perf_counter())
        if CURRENT.before is not None:
            CURRENT.before(CURRENT.batches + 1, trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, and end the run if it was the last."""
        now = CURRENT
        now.batches += 1
        cuda = pl_module.device.type == "cuda"
        if now.losses:
            kept = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
            now.kept.append({name: value.detach().clone() for name, value in kept.items()})
        work = pl_module.work_in(batch) if isinstance(pl_module, StageModule) else None
        if now.batches > now.warm:
            now.timed_work = now.timed_work + (1 if work is None else work.tokens)
            now.documents += len(batch["ids"]) if isinstance(batch, dict) and "ids" in batch else 0
        if now.batches == 1 and cuda:
            torch.cuda.reset_peak_memory_stats()
        if now.after is not None:
            now.after(now.batches, trainer, pl_module)
        now.ended.append(time.perf_counter())  # what `after` waited for is no part of what follows
        if now.batches == now.warm:
            self._begin = _mark(cuda)
        if now.last is not None and now.batches >= now.last:
            now.seconds = _since(self._begin, cuda) if self._begin is not None else 0.0
            if cuda:
                now.peak_bytes = torch.cuda.max_memory_allocated()
                now.reserved_bytes = torch.cuda.max_memory_reserved()
                free, total = torch.cuda.mem_get_info()
                now.used_bytes = total - free
            raise EnoughError(f"Measured {now.batches} batches.")


def _mark(cuda: bool) -> Any:
    if not cuda:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _since(begin: Any, cuda: bool) -> float:
    if not cuda:
        return time.perf_counter() - float(begin)
    end = _mark(cuda)
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000
