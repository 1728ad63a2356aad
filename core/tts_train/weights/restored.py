"""A file as a seekable stream whose first bytes are put back to what they were, and whose reading can be rationed."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

_RATION = "its directory is larger than any weights file needs"


class RationError(ValueError):
    """More bytes were asked for than the stream was allowed to give."""


class RestoredFile:
    """Give the bytes of ``path`` with ``head`` in place of as many first bytes; nothing is copied or written.

    Some programs overwrite the signature of an archive to mark its version. This undoes it while reading. ``ration``
    is the number of bytes still allowed to be read, or None for no bound. Reads never ask for more than is there.
    """

    def __init__(self, path: Path, head: bytes = b"") -> None:
        self._file = path.open("rb")
        self._head = head
        self.size = os.fstat(self._file.fileno()).st_size
        self.ration: int | None = None

    def __enter__(self) -> RestoredFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, count: int = -1) -> bytes:
        """Return the next ``count`` bytes, or fewer at the end; all that are left if negative."""
        start = self._file.tell()
        left = max(self.size - start, 0)
        count = left if count < 0 else min(count, left)
        if self.ration is not None:
            if count > self.ration:
                raise RationError(_RATION)
            self.ration -= count
        return self._patched(self._file.read(count), start)

    def readline(self) -> bytes:
        """Return the bytes up to and with the next newline."""
        start = self._file.tell()
        return self._patched(self._file.readline(), start)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill ``buffer`` as far as the file reaches; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as ``io.IOBase.seek`` does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Return True: archives are read from their end."""
        return True

    def _patched(self, data: bytes, start: int) -> bytes:
        if start >= len(self._head):
            return data
        patch = self._head[start : start + len(data)]
        return patch + data[len(patch) :]
