"""Views of a file: bytes put before it, a part of it, or a few bytes that are others; nothing is copied."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from typing import BinaryIO


def view(file: BinaryIO, *, head: bytes = b"", start: int = 0, length: int) -> BinaryIO:
    """Return ``head`` and behind it ``length`` bytes of a file from ``start`` on, as a file of its own."""
    return io.BufferedReader(_Part(file, head, start, length))


def patched(file: BinaryIO, patches: Mapping[int, bytes]) -> BinaryIO:
    """Return a view of a file in which the bytes at some places are others."""
    return io.BufferedReader(_Patched(file, patches))


class _Part(io.RawIOBase):
    """Some bytes, and behind them a part of a file: hours of sound need no memory."""

    def __init__(self, file: BinaryIO, head: bytes, start: int, length: int) -> None:
        self._file, self._head, self._start = file, head, start
        self._size = len(head) + length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        # Damaged data sends decoders to places before the start; as for MemoryFile, they stay where they are.
        self._at = at if at >= 0 else self._at
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._size - self._at))
        data = self._head[self._at : self._at + count]
        if len(data) < count:
            self._file.seek(self._start + self._at + len(data) - len(self._head))
            data += self._file.read(count - len(data))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _Patched(io.RawIOBase):
    """A view of a file in which a few bytes are others."""

    def __init__(self, file: BinaryIO, patches: Mapping[int, bytes]) -> None:
        self._file, self._patches = file, patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        at = self._file.tell()
        # Put right while it is read: the file itself is somebody else's, and copying hours of sound takes memory.
        data = bytearray(self._file.read(len(buffer)))
        for place, new in self._patches.items():
            for offset, byte in enumerate(new, start=place - at):
                if 0 <= offset < len(data):
                    data[offset] = byte
        buffer[: len(data)] = data
        return len(data)
