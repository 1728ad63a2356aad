"""An exclusive lock on a file that ends with its process: a record lock on Linux and macOS, a locked byte on Windows.

Portable libraries lock with ``flock``, which processes that load data inherit when they are forked, and keep when the
run is killed. Record locks are not inherited, and neither are the handles of Windows.
"""

from __future__ import annotations

import errno
import os
import sys

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system without locks says."""
_HELD = (errno.EACCES, errno.EAGAIN)

if sys.platform == "win32":
    import msvcrt

    _PLACE = 1 << 30
    # Windows keeps others from reading what is locked, and the holder's name must be readable: so the byte that is
    # locked lies far behind the end of the file.

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

    def _give_back(descriptor: int) -> None:
        os.lseek(descriptor, _PLACE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _give_back(descriptor: int) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


def lock(descriptor: int) -> bool:
    """Take the lock on an open file, without waiting.

    Args:
        descriptor: of a file opened for reading and writing.

    Returns:
        False if another process holds it.

    Raises:
        OSError: if the file system refuses; one of ``NO_LOCKS`` if it has no locks.
    """
    try:
        _take(descriptor)
    except OSError as error:
        # Systems differ in which of the two they say.
        if error.errno in _HELD:
            return False
        raise
    return True


def unlock(descriptor: int) -> None:
    """Give the lock back; closing alone does so too, but Windows may take its time."""
    _give_back(descriptor)
