"""No silent numeric death: steps with non-finite losses or gradients are skipped, and three in a row end the run."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from tts_train.contract.data import stage_data
from tts_train.disk.files import write_json
from tts_train.errors import NumericError
from tts_train.optim.kernels.flags import at_once, is_set
from tts_train.optim.streamed.optimizer import StreamedOptimizer
from tts_train.parallel.together import leads

MOST_IN_A_ROW = 3
"""So many skipped steps in a row end the run."""

logger = logging.getLogger(__name__)


class FiniteGuard(Callback):
    """Skips optimiser steps whose loss or gradients are not finite, and says which utterances were in them.

    Whether a step is finite is computed on the device: the losses, and one maximum norm over the gradients. Where
    the optimiser can skip on the device itself, it is given the answer there as ``found_inf`` (0-d, 1: change nothing),
    and the host reads it one step later, when it lies ready: so the host never waits for the step that it has just
    launched. Torch's fused Adam and AdamW can, and every optimiser that says so by ``skips_on_device``, as
    :class:`~tts_train.optim.StreamedOptimizer` does. For others the answer is read between backward and the optimiser,
    where the host then waits for backward to end. On a CPU it is read there too, which is no wait. With a gradient
    scaler (fp16) only the losses are judged, because the scaler skips overflowing gradients as a matter of course.

    Optimisers of this project for which the host waits: ``adafactor``, since torch's reads two norms of every parameter
    on the host itself, and ``paged_adamw8bit``, since bitsandbytes' waits for the device after every parameter.

    Where several optimisers step in one batch, each is judged by the loss before its own step, and skipped steps in
    a row are counted for each. An optimiser that steps inside backward is told before it whether the loss is finite;
    from the first gradient that is not finite on, it drops the rest of them itself.

    Args:
        report: file in which the utterances of the last skipped steps are written when the run ends over them.
    """

    def __init__(self, report: Path | None = None) -> None:
        self.skipped = 0
        """Steps skipped since the run began."""
        self._report = report
        self._in_a_row: dict[int, list[dict[str, Any]]] = defaultdict(list)
        self._batches: list[dict[str, Any]] = []
        self._stepped = False
        self._bad: torch.Tensor | None = None
        self._pending: dict[int, tuple[torch.Tensor, torch.cuda.Event | None, dict[str, Any]]] = {}

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """Note what is in the batch, for the message."""
        # Batches that are accumulated into one step are told of together.
        if self._stepped:
            self._batches, self._stepped = [], False
        self._batches.append(
            {"epoch": trainer.current_epoch, "batch": batch_idx, "ids": _ids(trainer, batch, batch_idx)}
        )

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Judge the loss, on the device."""
        # Not read here: the host would wait for forward in every batch.
        bad = ~torch.isfinite(loss.detach()).all()
        self._judge(bad)
        # Their steps happen in backward, so they must know beforehand.
        inside = [one for one in trainer.optimizers if isinstance(one, StreamedOptimizer) and one.in_backward]
        if inside:
            bad = _anywhere(trainer, bad)
            for optimizer in inside:
                optimizer.hold(bad)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Judge the gradients of all accumulated batches, and skip the step if they or a loss are not finite.

        Raises:
            NumericError: if that happened three times in a row; a step that was skipped on the device is counted one
                step later.
        """
        # Scaled gradients overflow now and then by design.
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            self._judge_gradients(optimizer)
        if isinstance(optimizer, StreamedOptimizer) and optimizer.in_backward:
            self._judge(optimizer.refused)
        bad, self._bad = self._bad, None
        which = trainer.optimizers.index(optimizer)
        step = {"step": trainer.global_step, "batches": self._batches}
        self._stepped = True
        if bad is None:
            return
        bad = _anywhere(trainer, bad)
        # The answer of the step before has arrived meanwhile; this one's is only launched.
        if not at_once(bad) and _skips_on_device(optimizer):
            self._settle(which)
            self._skip_on_device(optimizer, bad, which, step)
        elif is_set(bad):
            optimizer.zero_grad(set_to_none=True)  # without gradients an optimiser changes nothing at all
            self._count(which, step)
        else:
            self._in_a_row[which].clear()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the answers to the last step."""
        self._settle(*self._pending)
        for optimizer in trainer.optimizers:
            if getattr(optimizer, "found_inf", None) is not None:
                optimizer.found_inf = None  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, the last step's answers included."""
        self._settle(*self._pending)
        return {
            "skipped": self.skipped,
            "in_a_row": {str(which): list(steps) for which, steps in self._in_a_row.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up :meth:`state_dict`."""
        self.skipped = state_dict["skipped"]
        self._in_a_row = defaultdict(list, {int(which): list(s) for which, s in state_dict["in_a_row"].items()})

    def _judge(self, bad: torch.Tensor) -> None:
        self._bad = bad if self._bad is None else self._bad | bad

    def _judge_gradients(self, optimizer: Optimizer) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # Each process judges its own rows; _anywhere joins the answers.
        local = [grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads]
        by_kind: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
        for grad in local:
            if grad.numel() and not grad.is_sparse:
                # torch's _foreach functions take one device and type at a time, else they go one by one.
                by_kind.setdefault((grad.device, grad.dtype), []).append(grad)
        for same in by_kind.values():
            norms = torch._foreach_norm(same, float("inf"))  # the greatest value cannot overflow, a sum of squares can
            self._judge(~torch.isfinite(torch.stack(list(norms))).all())

    def _skip_on_device(self, optimizer: Optimizer, bad: torch.Tensor, which: int, step: dict[str, Any]) -> None:
        flag = bad.float()
        optimizer.found_inf = flag  # type: ignore[attr-defined]
        # Pinned, or the copy itself would wait for the device.
        copy = torch.empty((), dtype=flag.dtype, pin_memory=flag.is_cuda)
        copy.copy_(flag, non_blocking=True)
        event = None
        if flag.is_cuda:
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._pending[which] = copy, event, step

    def _settle(self, *optimizers: int) -> None:
        """Count the last step of these optimisers, whose answers have been on their way since."""
        for which in optimizers:
            if which in self._pending:
                copy, event, step = self._pending.pop(which)
                if event is not None:
                    # Recorded a whole step ago: nothing is left to wait for.
                    event.synchronize()
                if is_set(copy):
                    self._count(which, step)
                else:
                    self._in_a_row[which].clear()

    def _count(self, which: int, step: dict[str, Any]) -> None:
        self.skipped += 1
        in_a_row = self._in_a_row[which]
        in_a_row.append(step)
        logger.warning("Step %d was skipped: its loss or gradients are not finite. %s", step["step"], _named(step))
        if len(in_a_row) < MOST_IN_A_ROW:
            return
        if self._report is not None and leads():
            write_json(self._report, {"skipped": self.skipped, "in_a_row": in_a_row})
        where = f" (all of them are in {self._report})" if self._report is not None else ""
        raise NumericError(
            f"{MOST_IN_A_ROW} steps in a row had non-finite losses or gradients, the last one step {step['step']}. "
            f"{_named(step)}{where}. Nothing that is not finite changed a weight, and the last checkpoint is "
            "good. Lower the learning rate or look at these utterances, then continue the run with the same command or "
            "call."
        )


def _anywhere(trainer: Trainer, bad: torch.Tensor) -> torch.Tensor:
    """Return whether it is so in any process."""
    if trainer.world_size == 1:
        return bad
    shared = bad.float()  # read by nobody: it stays on the device
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return shared > 0


def _skips_on_device(optimizer: Optimizer) -> bool:
    if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        return all(group.get("fused") for group in optimizer.param_groups)
    return bool(getattr(optimizer, "skips_on_device", False))


def _ids(trainer: Trainer, batch: object, batch_idx: int) -> list[Any]:
    """Return the utterances' ids where the batch has them, else the rows of the batch."""
    if isinstance(batch, Mapping) and "ids" in batch:
        return [value if isinstance(value, (int, str)) else str(value) for value in batch["ids"]]
    data = stage_data(trainer)
    return [] if data is None else list(data.rows_in(trainer.current_epoch, batch_idx))


def _named(step: Mapping[str, Any]) -> str:
    ids = [str(name) for batch in step["batches"] for name in batch["ids"]]
    shown = ", ".join(ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
    return f"In it were: {shown}" if ids else "Its utterances are not known"
