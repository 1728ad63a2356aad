"""Host memory in which tensors wait to be written while training goes on with the originals."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import psutil
import torch

PIECE = 1 << 28
"""Most bytes allocated at once. Pinned memory is rounded up to a power of two, so pieces of one waste nothing."""

SPARE = 1 << 30
"""Bytes of host memory that must stay free beside a copy."""

_CGROUP = Path("/sys/fs/cgroup")

logger = logging.getLogger(__name__)


class Staging:
    """Memory that is used again for each save; pinned where a card's tensors are copied into it."""

    def __init__(self) -> None:
        self._pieces: list[torch.Tensor] = []
        self.pinned = False
        """Whether a card copies into it by itself."""
        self._piece = self._used = 0
        self._refused = False

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(len(piece) for piece in self._pieces)

    def begin(self, needed: int, *, pinned: bool) -> None:
        """Make room for ``needed`` bytes; what was copied before may be overwritten from now on.

        Where the driver pins no more memory, as a container may limit, the rest is ordinary memory: copies into it are
        waited for, and training goes on.
        """
        if pinned != self.pinned:
            self.release()
        self.pinned, self._piece, self._used = pinned, 0, 0
        while self.nbytes < needed:
            rest = needed - self.nbytes
            # A power of two, to which pinned memory is rounded anyway: the rest of it serves a later save.
            size = min(PIECE, 1 << max(rest - 1, 1).bit_length())
            self._pieces.append(self._pinned_if_possible(size) if pinned else torch.empty(size, dtype=torch.uint8))

    def copy(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Copy a tensor's bytes, and return where they lie, in order.

        Copies from a card are launched on its current stream and not waited for: whatever is launched there afterwards
        finds the tensor free to change, and the copy is whole once the stream has come so far.
        """
        # Bytes whatever the type: numpy, which writes them, knows no bfloat16.
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        parts = []
        while len(flat):
            piece = self._pieces[self._piece]
            room = len(piece) - self._used
            if not room:
                self._piece, self._used = self._piece + 1, 0
                continue
            count = min(room, len(flat))
            part = piece[self._used : self._used + count]
            part.copy_(flat[:count], non_blocking=True)
            parts.append(part)
            flat, self._used = flat[count:], self._used + count
        return parts

    def _pinned_if_possible(self, size: int) -> torch.Tensor:
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError as error:
            if not self._refused:
                self._refused = True
                reason = str(error).partition("\n")[0]
                logger.warning("No more memory can be pinned for checkpoints, so saving waits longer: %s", reason)
            return torch.empty(size, dtype=torch.uint8)

    def release(self) -> None:
        """Give the memory back."""
        self._pieces = []


def copied(devices: Iterable[torch.device]) -> list[torch.cuda.Event]:
    """Return what a thread waits for until the copies launched so far from these devices are whole."""
    events = []
    for device in sorted({device for device in devices if device.type == "cuda"}, key=str):
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        # A thread waits for this event and not for the card, which computes the next steps meanwhile.
        event.record(torch.cuda.current_stream(device))
        events.append(event)
    return events


def free_host_memory() -> int:
    """Return the bytes that this process may still take: what the machine has, or what its control group leaves."""
    free = int(psutil.virtual_memory().available)
    try:
        limit, used = (int((_CGROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        # Pages of files that were read count as used, and are given back when somebody asks for memory.
        return min(free, limit - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return free
