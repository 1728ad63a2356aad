"""Activations that wait for backward: recomputed block by block, or kept in host memory."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from tts_train.nn.devices import planned_device, runs_on, side_stream
from tts_train.nn.kernels.choice import left_out

# 1 MiB.
SMALLEST_BYTES = 1 << 20
"""Smaller tensors stay where they are: moving one costs more than it frees."""

IN_FLIGHT = 2
"""Most tensors that are being copied to the host and still lie on the card."""

# Nodes that autograd puts between a parameter and the copy of it that autocast multiplies with.
_CASTS = ("TBackward0", "ToCopyBackward0", "TransposeBackward0", "ViewBackward0", "UnsafeViewBackward0")


def spread(count: int, share: float) -> list[bool]:
    """Choose ``share`` (0 to 1) of ``count`` blocks, evenly spread; at least as many as the share asks for.

    The first blocks of each stretch are chosen: what an early block keeps lives longest.
    """
    # Rounded up: a share is what a card must have, and one block fewer may not fit.
    wanted = math.ceil(count * share)
    return [index * wanted % count < wanted for index in range(count)]


class OffloadedActivations(saved_tensors_hooks):
    """Within the block, floating-point tensors saved for backward wait in host memory (pinned for CUDA).

    Weights stay: they are on the device anyway. Inside a checkpointed block only what the block was given is saved, and
    thus moved. On a card copies run on streams of their own beside the computing: on the way out at most ``IN_FLIGHT``
    at a time, for which the tensors still lie on the card, and on the way back the next one in backward is fetched
    ahead. Make one for each forward.
    """

    def __init__(self) -> None:
        self.moved_bytes = 0
        """Bytes moved so far."""
        self._flight: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self._moved: list[weakref.ref[_Moved]] = []
        super().__init__(self._pack, self._unpack)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        while self._flight:
            self._land()

    def _pack(self, tensor: Tensor) -> Tensor | _Moved:
        if not tensor.is_floating_point() or tensor.nbytes < SMALLEST_BYTES or _is_weight(tensor):
            return tensor
        self.moved_bytes += tensor.nbytes
        # Without a limit the host, which is ahead of the card, would keep every tensor on the card until its copy.
        while len(self._flight) >= IN_FLIGHT:
            self._land()
        # Detached, so that what is kept holds no graph, which would hold the activations that were just moved.
        moved = _Moved(tensor.detach(), place=len(self._moved))
        # Weakly: a tensor that backward no longer needs goes, whatever the order in which blocks are done.
        self._moved.append(weakref.ref(moved))
        if runs_on(tensor.device) == "cuda":
            self._flight.append((tensor.detach(), moved.left))
        return moved

    def _land(self) -> None:
        """Let go of the oldest tensor on its way out: whatever takes its memory waits for the copy."""
        _, left = self._flight.popleft()
        if left is not None:
            torch.cuda.current_stream().wait_event(left)

    def _unpack(self, kept: Tensor | _Moved) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        back = kept.back()
        # Backward goes through forward's order from its end, so what was moved before this comes next.
        before = self._moved[kept.place - 1]() if kept.place else None
        if before is not None:
            before.fetch()
        return back


class _Moved:
    """A tensor in host memory; in a plan nothing, since a plan counts what is on the card."""

    def __init__(self, tensor: Tensor, *, place: int) -> None:
        self.place = place
        self.left: torch.cuda.Event | None = None
        # An empty tensor keeps type and device; in a plan that is the planned device.
        self._like = tensor.new_empty(0), tensor.shape
        self._fetched: tuple[Tensor, torch.cuda.Event | None] | None = None
        self._host: Tensor | None = None
        if planned_device() is not None:
            left_out("host_copy::activations", [tensor], [])
            return
        # New memory also on the CPU: there it only costs time, but it is the same code that a card runs.
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        with _beside(tensor.device, "out") as stream:
            self._host.copy_(tensor, non_blocking=True)
            self.left = None if stream is None else stream.record_event()

    def fetch(self) -> None:
        """Begin to bring the tensor back, unless that was begun."""
        if self._fetched is not None:
            return
        like, shape = self._like
        back = like.new_empty(shape)  # memory of the stream that will use it
        arrived = None
        if self._host is None:
            left_out("host_copy::activations", [], [back])
        else:
            with _beside(back.device, "in") as stream:
                if stream is not None and self.left is not None:
                    stream.wait_event(self.left)
                back.copy_(self._host, non_blocking=True)
                if stream is not None:
                    back.record_stream(stream)  # should nobody ask for it, its memory waits for the copy all the same
                    arrived = stream.record_event()
        self._fetched = back, arrived

    def back(self) -> Tensor:
        """Return the tensor on its device, for the current stream."""
        self.fetch()
        assert self._fetched is not None
        (back, arrived), self._fetched = self._fetched, None
        if arrived is not None:
            torch.cuda.current_stream(back.device).wait_event(arrived)
        return back


@contextmanager
def _beside(device: torch.device, way: str) -> Iterator[torch.cuda.Stream | None]:
    """Within the block, work for a card goes to the stream of one ``way``, after all that it was given so far."""
    if device.type != "cuda":
        yield None
        return
    stream = side_stream(device, f"activations {way}")
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield stream


def _is_weight(tensor: Tensor) -> bool:
    """Tell whether ``tensor`` is a parameter, a view of one, or autocast's copy of one, which autocast keeps."""
    base = tensor if tensor._base is None else tensor._base
    if isinstance(base, nn.Parameter) or isinstance(tensor, nn.Parameter):
        return True
    node: Any = tensor.grad_fn
    while node is not None and node.name() in _CASTS:
        node = node.next_functions[0][0]
    return node is not None and node.name() == "torch::autograd::AccumulateGrad"
