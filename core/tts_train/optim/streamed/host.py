"""States in host memory: how they lie there, and how they travel beside the computation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tts_train.nn.devices import planned_device, side_stream
from tts_train.nn.kernels.choice import left_out

DEPTH = 3
"""Pieces that are on the device at a time: one arrives, one is stepped, one leaves."""
CHUNK = 1 << 28
"""Most bytes of a chunk of host memory that are not yet asked for."""
# Bytes; what CUDA's allocator aligns to, so that every view may be of any type.
_ALIGNED = 512


class HostArena:
    """Host memory for many tensors, in few chunks of a power of two bytes.

    Pinned memory is rounded up to a power of two, which for a tensor of its own may double it. Tensors of one chunk are
    of one type, since ``torch.save`` refuses others.

    Args:
        expected: Bytes that all tensors will take together.
        pinned: For copies that a card makes by itself.
    """

    def __init__(self, expected: int, *, pinned: bool) -> None:
        self._expected = expected
        self._pinned = pinned
        self._chunks: list[tuple[Tensor, int]] = []

    @property
    def nbytes(self) -> int:
        """Bytes of all chunks."""
        return sum(chunk.nbytes for chunk, _ in self._chunks)

    def zeros(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return a flat tensor of zeros that shares its memory with none."""
        needed = -(-size * dtype.itemsize // _ALIGNED) * _ALIGNED
        fitting = (n for n, (chunk, used) in enumerate(self._chunks)
                   if chunk.dtype == dtype and used + needed <= chunk.nbytes)  # fmt: skip
        # First fit: parameters come once, in one order, and none is given back.
        place = next(fitting, None)
        if place is None:
            # No more than what is still expected, or the last chunk would be mostly empty.
            length = max(_power_of_two(needed), min(CHUNK, _power_of_two(self._expected)))
            self._chunks.append((torch.empty(length // dtype.itemsize, dtype=dtype, pin_memory=self._pinned), 0))
            place = len(self._chunks) - 1
        chunk, used = self._chunks[place]
        self._chunks[place] = chunk, used + needed
        self._expected = max(self._expected - needed, 0)
        first = used // dtype.itemsize
        return chunk[first : first + size].zero_()


class StateRing:
    """Device memory for the states of ``DEPTH`` pieces, which come and go on streams of their own.

    A piece is copied to the device as soon as a place in the ring is free, which is while earlier pieces are stepped,
    and copied back when its step is done. Everything is ordered by events on the device; the host does not wait, and
    however far it is ahead, no more than the ring is taken. In a plan only the ring's memory and the copies' traffic
    are real.

    Args:
        like: A tensor of the device.
        capacity: Most bytes of a piece's states, as :func:`room_for` counts them.
    """

    def __init__(self, like: Tensor, capacity: int) -> None:
        self._buffers = [like.new_empty(capacity, dtype=torch.uint8) for _ in range(DEPTH)]
        self._next = 0
        self._streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        if planned_device() is None:
            self._streams = side_stream(like.device, "states in"), side_stream(like.device, "states out")
            self._free: list[torch.cuda.Event | None] = [None] * DEPTH
            # The buffers were just taken from memory that the computing stream may still be using.
            self._streams[0].wait_stream(torch.cuda.current_stream(like.device))

    def bring(self, cuts: Mapping[str, Tensor], after: torch.cuda.Event | None) -> dict[str, Tensor]:
        """Return copies of pieces of states on the device, for the present stream.

        Args:
            cuts: The pieces in host memory.
            after: When they were last brought back there.
        """
        buffer, found, used = self._buffers[self._next], {}, 0
        for name, cut in cuts.items():
            length = cut.numel() * cut.element_size()
            found[name] = buffer[used : used + length].view(cut.dtype)
            used += -(-length // _ALIGNED) * _ALIGNED
        if self._streams is None:
            left_out("host_copy::states", [], list(found.values()))
            return found
        inward = self._streams[0]
        # The place's last states must have left, and this piece's own must have arrived where they are read from.
        for event in (self._free[self._next], after):
            if event is not None:
                inward.wait_event(event)
        with torch.cuda.stream(inward):
            for name, cut in cuts.items():
                found[name].copy_(cut, non_blocking=True)
        torch.cuda.current_stream(buffer.device).wait_stream(inward)
        return found

    def send(self, states: Mapping[str, Tensor], cuts: Mapping[str, Tensor]) -> torch.cuda.Event | None:
        """Bring what :meth:`bring` gave last back to host memory, once the present stream is done with it.

        Returns:
            When it is there; None in a plan.
        """
        place, self._next = self._next, (self._next + 1) % DEPTH
        if self._streams is None:
            left_out("host_copy::states", list(states.values()), [])
            return None
        outward = self._streams[1]
        # The step of this piece has been launched on the computing stream; its result leaves when that is done.
        outward.wait_stream(torch.cuda.current_stream(self._buffers[place].device))
        with torch.cuda.stream(outward):
            for name, cut in cuts.items():
                cut.copy_(states[name], non_blocking=True)
        self._free[place] = outward.record_event()
        return self._free[place]


def room_for(states: Mapping[str, Tensor]) -> int:
    """Return the bytes that states take in an arena or a ring."""
    return sum(-(-state.numel() * state.element_size() // _ALIGNED) * _ALIGNED for state in states.values())


def _power_of_two(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()
