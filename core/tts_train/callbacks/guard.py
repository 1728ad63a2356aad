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

from tts_train.errors import NumericError
from tts_train.optim import StreamedOptimizer
from tts_train.run.files import write_json
from tts_train.run.ranks import leads

MOST_IN_A_ROW = 3
"""So many skipped steps in a row end the run."""

logger = logging.getLogger(__name__)


class FiniteGuard(Callback):
    """Skips optimiser steps whose loss or gradients are not finite, and says which utterances were in them.

    Whether a step is finite is computed on the device: the losses, and one maximum norm over the gradients. Where
    the optimiser can skip on the device itself (torch's fused ones on CUDA, by their ``found_inf``), the answer is
    read one step later, when it lies ready, so that the host never waits for the step it has just launched.
    Otherwise it is read between backward and the optimiser: the host waits there for backward to end, and only the
    launching of the optimiser's own kernels is no longer hidden. With a gradient scaler (fp16) only the losses are
    judged, because the scaler skips overflowing gradients as a matter of course.

    Where several optimisers step in one batch, each is judged by the loss before its own step, and skipped steps in
    a row are counted for each. An optimiser that steps inside backward is held back
    before it if the loss is not finite, for which the host waits for forward to end; from the first gradient that is
    not finite on, it drops the rest of them itself.

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
        self._pending: tuple[torch.Tensor, torch.cuda.Event, int, dict[str, Any]] | None = None

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 - Lightning's signature
        batch_idx: int,
    ) -> None:
        """Note what is in the batch, for the message."""
        if self._stepped:
            self._batches, self._stepped = [], False
        self._batches.append(
            {"epoch": trainer.current_epoch, "batch": batch_idx, "ids": _ids(trainer, batch, batch_idx)}
        )

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Judge the loss, on the device."""
        bad = ~torch.isfinite(loss.detach()).all()
        self._judge(bad)
        inside = [one for one in trainer.optimizers if isinstance(one, StreamedOptimizer) and one.in_backward]
        if inside and bool(_anywhere(trainer, bad)):
            for optimizer in inside:
                optimizer.hold()

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Judge the gradients of all accumulated batches, and skip the step if they or a loss are not finite.

        Raises:
            NumericError: if that happened three times in a row.
        """
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            self._judge_gradients(optimizer)
        if isinstance(optimizer, StreamedOptimizer) and optimizer.dropped:
            self._judge(torch.tensor(True))
        bad, self._bad = self._bad, None
        which = trainer.optimizers.index(optimizer)
        step = {"step": trainer.global_step, "batches": self._batches}
        self._stepped = True
        if bad is None:
            return
        bad = _anywhere(trainer, bad)
        if bad.is_cuda and _skips_on_device(optimizer):
            self._skip_on_device(optimizer, bad, which, step)
        elif bool(bad):
            optimizer.zero_grad(set_to_none=True)  # without gradients an optimiser changes nothing at all
            self._count(which, step)
        else:
            self._in_a_row[which].clear()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the answer to the last step."""
        self._settle()

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
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
        local = [grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads]
        by_kind: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
        for grad in local:
            if grad.numel() and not grad.is_sparse:
                by_kind.setdefault((grad.device, grad.dtype), []).append(grad)
        for same in by_kind.values():
            norms = torch._foreach_norm(same, float("inf"))  # the greatest value cannot overflow, a sum of squares can
            self._judge(~torch.isfinite(torch.stack(list(norms))).all())

    def _skip_on_device(self, optimizer: Optimizer, bad: torch.Tensor, which: int, step: dict[str, Any]) -> None:
        self._settle()
        flag = bad.float()
        optimizer.found_inf = flag  # type: ignore[attr-defined]
        copy = torch.empty((), dtype=flag.dtype, pin_memory=True)
        copy.copy_(flag, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = (copy, event, which, step)

    def _settle(self) -> None:
        if self._pending is None:
            return
        copy, event, which, step = self._pending
        self._pending = None
        event.synchronize()
        if bool(copy):
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
            "good. Lower the learning rate or look at these utterances, then run the same command again."
        )


def _anywhere(trainer: Trainer, bad: torch.Tensor) -> torch.Tensor:
    """Return whether it is so in any process."""
    if trainer.world_size == 1:
        return bad
    shared = bad.float()
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return shared > 0


def _skips_on_device(optimizer: Optimizer) -> bool:
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def _ids(trainer: Trainer, batch: object, batch_idx: int) -> list[Any]:
    """Return the utterances' ids where the batch has them, else the rows of the plan."""
    if isinstance(batch, Mapping) and "ids" in batch:
        return [value if isinstance(value, (int, str)) else str(value) for value in batch["ids"]]
    sampler = getattr(getattr(trainer, "datamodule", None), "train_sampler", None)
    return [int(row) for row in sampler.batches(trainer.current_epoch)[batch_idx]] if sampler is not None else []


def _named(step: Mapping[str, Any]) -> str:
    ids = [str(name) for batch in step["batches"] for name in batch["ids"]]
    shown = ", ".join(ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
    return f"In it were: {shown}" if ids else "Its utterances are not known"
