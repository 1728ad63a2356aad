"""When a gradient's memory is made and let go of, in a run and in a plan of it.

A plan makes sums in the first gradient's memory, as autograd does, but not while a dispatch mode looks on. A run drops
gradients as soon as a step has used them, not after the next batch's forward.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tts_train.memory.step.shapes import Shapes

# The Python function that backward runs below; what its own nodes and hooks run in Python has other callers.
_ENGINE = "_engine_run_backward"
_DISPATCH = "__torch_dispatch__"
# A mode's own function and those that torch puts around it.
_OURS = (_DISPATCH, "_fn", "inner")


class GradientSums:
    """Tells sums that a run without a plan would make in place: autograd's, of a gradient that nothing else holds.

    What "nothing else" looks like from within a dispatch mode is taken from a sum of which it is known.

    Args:
        shapes: What fakes the step's tensors.
    """

    def __init__(self, shapes: Shapes) -> None:
        with _Listener() as heard:  # type: ignore[no-untyped-call]
            # A sum of two branches' gradients, of which it is known that nothing else holds the first.
            start = shapes.fake(torch.empty(2, requires_grad=True))
            (start.tanh() + start.sigmoid()).sum().backward()  # type: ignore[no-untyped-call]
        self._alone = heard.holders

    def in_place(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:  # noqa: ANN401 - an operator
        """Tell whether an operator that a dispatch mode was asked to run is such a sum."""
        if not _is_sum(func) or kwargs or torch.is_grad_enabled():
            return False
        one, other = args
        alike = isinstance(other, Tensor) and one.shape == other.shape and one.dtype == other.dtype
        # Strides that are a permutation of dense ones keep their memory; torch asks the same.
        return alike and torch.ops.aten.is_non_overlapping_and_dense(one) and _holders(one) == self._alone


class _Listener(TorchDispatchMode):  # type: ignore[no-untyped-call]
    holders: tuple[int, int] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        if _is_sum(func):
            self.holders = _holders(args[0])
        return func(*args, **(kwargs or {}))


def _is_sum(func: Any) -> bool:  # noqa: ANN401
    return func is torch.ops.aten.add.Tensor and _caller() == _ENGINE


def _caller() -> str:
    """Return the name of the function from which the innermost dispatch was reached."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_name != _DISPATCH:
        frame = frame.f_back
    while frame.f_back is not None and frame.f_code.co_name in _OURS:
        frame = frame.f_back
    return frame.f_code.co_name


def _holders(tensor: Tensor) -> tuple[int, int]:
    """Return how many hold a tensor and its memory."""
    storage: Any = tensor.untyped_storage()
    return tensor._use_count(), torch._C._storage_Use_Count(storage._cdata)  # type: ignore[attr-defined]


class DropGradients(Callback):
    """Makes the room of the gradients free for the next forward's activations.

    Lightning drops them between forward and backward of the next batch, so until then they lie beside its activations.
    Nothing reads them meanwhile and no checkpoint holds them, so no result changes. A stage that steps by itself is
    left alone, and so are gradients that are still being accumulated.
    """

    def __init__(self) -> None:
        self._steps = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Note the step, to see whether the batch ends one."""
        self._steps = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's signature
        batch: object,
        batch_idx: int,
    ) -> None:
        """Drop them if a step was made."""
        if pl_module.automatic_optimization and trainer.global_step != self._steps:
            for optimizer in trainer.optimizers:
                pl_module.optimizer_zero_grad(trainer.current_epoch, batch_idx, optimizer)
