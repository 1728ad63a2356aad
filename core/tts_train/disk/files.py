"""Writing to disk so that a reader sees the old thing or the new thing, never half of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from tts_train.errors import DataError, DiskError

CHUNK = 16 * 1024 * 1024
"""Bytes written or hashed at a time."""

TEMPORARY = ".tmp-"
"""First letters of names that nobody but their writer looks at."""


# No space, a quota that is used up, or a file larger than the file system takes.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PLACE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENOENT,
    errno.EINVAL,  # a name that Windows does not allow
)  # fmt: skip
_IN_USE = (5, 32, 145)
"""What Windows says of files and folders that somebody has open: denied, shared, not empty."""
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds between attempts."""


@contextmanager
def disk_errors(path: Path, *, option: str = "--out") -> Iterator[None]:
    """Say what to do where a disk refuses ``path``.

    Args:
        path: what is written.
        option: the option by which another place is chosen.

    Raises:
        DiskError: if the disk is full.
        DataError: if nothing can be written there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskError(
                f"The disk is full; writing {path} failed. Free some space and run it again, or choose a place on "
                f"another disk with {option}."
            ) from error
        if error.errno in _NO_PLACE:
            raise DataError(
                f"{path} cannot be written: {error.strerror}. Choose another folder with {option}."
            ) from error
        raise


def patiently(work: Callable[[], object]) -> None:
    """Do what Windows refuses while something else looks at a file: virus scanners and indexers open what is new.

    Elsewhere, where errors have no ``winerror``, the first refusal stands.
    """
    for pause in (*_PAUSES, None):
        try:
            work()
        except OSError as error:
            if pause is None or not is_in_use(error):
                raise
            time.sleep(pause)
        else:
            return


def is_in_use(error: Exception) -> bool:
    """Tell whether Windows refused because somebody has the file or folder open."""
    return getattr(error, "winerror", None) in _IN_USE


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut; Windows has no way to ask for it."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """Return a name in the same directory, and so on the same file system, that says which process made it."""
    return path.with_name(f"{TEMPORARY}{path.name}.{socket.gethostname()}.{os.getpid()}")


def write_atomically(path: Path, text: str, *, newline: str | None = None) -> None:
    """Replace the contents of a text file in one step; ``newline`` as ``open`` takes it."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("w", encoding="utf-8", newline=newline) as file:
            file.write(text)
            file.flush()
            # Before the rename: otherwise a power cut could leave the new name with nothing behind it.
            os.fsync(file.fileno())
        patiently(lambda: temporary.replace(path))
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file in one step. NaN and infinities are refused, as JSON has none."""
    write_atomically(path, as_json(value, indent=2) + "\n")


def as_json(value: object, *, indent: int | None = None, allow_nan: bool = False) -> str:
    """Return a value as JSON, in the letters of its strings where a file can hold them."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=allow_nan)
    try:
        text.encode()
    # Half of a pair of surrogates, from a text that was cut, or a file's name that is not UTF-8: JSON has an escape.
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, allow_nan=allow_nan)
    return text


def move_directory(source: Path, target: Path) -> None:
    """Give a finished directory its final name in one step; a directory of that name is replaced."""
    if target.exists():
        # A directory cannot be renamed onto one that is not empty, so the old one steps aside first.
        aside = target.with_name(f"{TEMPORARY}old-{target.name}.{os.getpid()}")
        patiently(lambda: target.rename(aside))
        patiently(lambda: source.rename(target))
        sync_directory(target.parent)
        patiently(lambda: shutil.rmtree(aside))
    else:
        patiently(lambda: source.rename(target))
        sync_directory(target.parent)


def remove_directory(path: Path) -> None:
    """Remove a directory so that it vanishes at once, also if this process is killed half way."""
    aside = path.with_name(f"{TEMPORARY}gone-{path.name}.{os.getpid()}")
    patiently(lambda: path.rename(aside))
    patiently(lambda: shutil.rmtree(aside))


def hash_file(path: Path) -> str:
    """Return the 128-bit xxh3 of a file, as hexadecimal digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return str(digest.hexdigest())


class HashingWriter:
    """A new file that knows its size and hash when it is closed, and is on the disk by then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = xxhash.xxh3_128()
        # x: the folder is new, so a file of this name would be another writer's.
        self._file = path.open("xb")

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        for start in range(0, len(data), CHUNK):
            part = data[start : start + CHUNK]
            self._file.write(part)
            self._digest.update(part)
            self.size += len(part)

    def close(self) -> dict[str, Any]:
        """Bring everything to the disk and describe the file as a manifest does."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"size": self.size, "xxh3_128": self._digest.hexdigest()}

    def abandon(self) -> None:
        """Close without a promise; safe after :meth:`close`, and after a failed write."""
        try:
            self._file.close()
        except OSError:  # closing flushes, and a full disk refuses that too
            self._file.raw.close()


AfterWrite = Callable[[Path], None]
"""Called with the path of each file as soon as it is on the disk; faults are injected here."""
