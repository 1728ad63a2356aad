"""Activations that wait for backward: recomputed block by block, or kept in host memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from tts_train.nn.kernels.left_out import left_out
from tts_train.nn.target import planned_device

SMALLEST_BYTES = 1 << 20
"""Smaller tensors stay where they are: moving one costs more than it frees."""

_CASTS = ("TBackward0", "ToCopyBackward0", "TransposeBackward0", "ViewBackward0", "UnsafeViewBackward0")


def spread(count: int, share: float) -> list[bool]:
    """Choose ``share`` (0 to 1) of ``count`` blocks, evenly spread; at least as many as the share asks for.

    The first blocks of each stretch are chosen: what an early block keeps lives longest.
    """
    wanted = math.ceil(count * share)
    return [index * wanted % count < wanted for index in range(count)]


class OffloadedActivations(saved_tensors_hooks):
    """Within the block, floating-point tensors saved for backward wait in host memory (pinned for CUDA).

    Weights stay: they are on the device anyway. Copies run on the stream that computes, so the step takes longer by
    the time of the copies. Inside a checkpointed block only what the block was given is saved, and thus moved.
    """

    def __init__(self) -> None:
        self.moved_bytes = 0
        """Bytes moved so far."""
        super().__init__(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> _Kept:
        if not tensor.is_floating_point() or tensor.nbytes < SMALLEST_BYTES or _is_weight(tensor):
            return tensor
        self.moved_bytes += tensor.nbytes
        if planned_device() is not None:
            left_out("host_copy::activations", [tensor.detach()], [])
            return _Planned(tensor.shape, tensor.dtype, tensor.device)
        # New memory also on the CPU: there it only costs time, but it is the same code that a card runs.
        host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        return _Moved(host.copy_(tensor.detach(), non_blocking=True), tensor.device)

    def _unpack(self, kept: _Kept) -> Tensor:
        return kept if isinstance(kept, Tensor) else kept.back()


@dataclass(frozen=True)
class _Moved:
    host: Tensor
    device: torch.device

    def back(self) -> Tensor:
        return self.host.to(self.device, non_blocking=True)


@dataclass(frozen=True)
class _Planned:
    """What a plan keeps of a moved tensor: nothing on the card until it is wanted."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    def back(self) -> Tensor:
        made = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        left_out("host_copy::activations", [], [made])
        return made


_Kept: TypeAlias = "Tensor | _Moved | _Planned"


def _is_weight(tensor: Tensor) -> bool:
    """Tell whether ``tensor`` is a parameter, a view of one, or autocast's copy of one, which autocast keeps."""
    base = tensor if tensor._base is None else tensor._base
    if isinstance(base, nn.Parameter) or isinstance(tensor, nn.Parameter):
        return True
    node: Any = tensor.grad_fn
    while node is not None and node.name() in _CASTS:
        node = node.next_functions[0][0]
    return node is not None and node.name() == "torch::autograd::AccumulateGrad"
