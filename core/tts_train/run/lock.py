"""One writer for a run directory: a lock that dies with its process."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import IO, Any

import psutil

from tts_train.disk.record_lock import NO_LOCKS, lock, unlock
from tts_train.errors import DiskError, RunLockedError
from tts_train.parallel.processes import HOW_TO_STOP

HEARTBEAT_SECONDS = 10.0
"""How often a holder shows a sign of life where the file system has no locks."""

_LINGERS = 5.0
"""Seconds for which a system, or a file server, may keep the lock of a process that has ended."""
_ASK_EVERY = 0.1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_held: set[Path] = set()  # the system's locks do not keep a process from its own files

logger = logging.getLogger(__name__)


class RunLock:
    """Holds a lock file from ``with`` to the end of the block, or of the process.

    The system's lock is used (:mod:`tts_train.disk.record_lock`); it is not inherited by data workers and vanishes with
    its process, however that ends, so a stale lock is simply taken. On file systems without locks the file's existence
    is the lock, a heartbeat shows that the holder lives, and a holder that shows none is taken over.

    Args:
        path: the lock file; its contents name the holder.
        heartbeat: seconds between signs of life, and half of the time for which one is waited.
        option: the option by which another folder is chosen, for messages.
    """

    def __init__(self, path: Path, *, heartbeat: float = HEARTBEAT_SECONDS, option: str = "--run_dir") -> None:
        self.path = path
        self._option = option
        self._heartbeat = heartbeat
        self._file: IO[str] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> RunLock:
        """Take the lock.

        Raises:
            RunLockedError: naming the holder.
            DiskError: if the lock file cannot be written.
        """
        key = self.path.resolve()
        # Record locks belong to the process: it would be given its own lock twice.
        if key in _held:
            raise self._refusal(_identity())
        try:
            self._acquire()
        except OSError as error:
            raise DiskError(
                f"The lock file {self.path} cannot be written: {error}. Free some space or see to the folder's "
                f"permissions and run the same command again, or choose another {self._option}."
            ) from error
        _held.add(key)
        return self

    def __exit__(self, *_: object) -> None:
        _held.discard(self.path.resolve())
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self.path.unlink(missing_ok=True)
        if self._file is not None:
            # An empty file: the next one to take the lock need not tell that its holder is gone.
            with contextlib.suppress(OSError):  # a full disk
                self._file.truncate(0)
            with contextlib.suppress(OSError):  # closing does it too
                unlock(self._file.fileno())
            self._file.close()

    def _acquire(self) -> None:
        # Not "w": opening must not erase the name of whoever holds the lock.
        file = self.path.open("a+", encoding="utf-8")
        try:
            taken = _lock_soon(file)
        except OSError as error:
            file.close()
            if error.errno in NO_LOCKS:
                self._acquire_by_heartbeat()
                return
            raise
        if not taken:
            holder = _parse(_contents(file))
            file.close()
            raise self._refusal(holder)
        before = _parse(_contents(file))
        if before:
            logger.info("Taking over the lock of %s, which is gone.", _name(before))
        try:
            file.truncate(0)
            file.write(json.dumps(_identity()))
            file.flush()
        except OSError:
            with contextlib.suppress(OSError):  # closing flushes, and a full disk refuses that too
                file.close()
            raise
        self._file = file

    def _acquire_by_heartbeat(self) -> None:
        logger.warning("The file system of %s has no locks; a heartbeat in %s is used.", self.path.parent, self.path)
        seen = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        holder = _parse(seen)
        if seen and holder and not _is_dead(holder):
            # Two beats: one may be late on a file server whose clock or cache lags.
            time.sleep(2 * self._heartbeat)
            if self.path.exists() and self.path.read_text(encoding="utf-8") != seen:
                raise self._refusal(holder)
        self._beat(0)
        # daemon: a heartbeat must not keep alive a process that is done.
        self._thread = threading.Thread(target=self._keep_beating, name="run-lock", daemon=True)
        self._thread.start()

    def _keep_beating(self) -> None:
        count = 0
        while not self._stop.wait(self._heartbeat):
            count += 1
            self._beat(count)

    def _beat(self, count: int) -> None:
        self.path.write_text(json.dumps({**_identity(), "beat": count}), encoding="utf-8")

    def _refusal(self, holder: dict[str, Any]) -> RunLockedError:
        return RunLockedError(
            f"Another run uses {self.path.parent}: {_name(holder)}. Wait for it, stop it ({HOW_TO_STOP}), or give "
            f"another {self._option}."
        )


def _lock_soon(file: IO[str]) -> bool:
    """Take the system's lock; where its holder has ended, wait a little for the system to notice."""
    until = time.monotonic() + _LINGERS
    while not lock(file.fileno()):
        if not _is_dead(_parse(_contents(file))) or time.monotonic() > until:
            return False
        time.sleep(_ASK_EVERY)
    return True


def _identity() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else "",
        "started": psutil.Process().create_time(),
    }


def _is_dead(holder: dict[str, Any]) -> bool:
    """Tell whether the holder is surely gone; a holder on another machine never is."""
    mine = _identity()
    if holder.get("host") != mine["host"]:
        return False
    # After a restart process ids begin again, and another process may have the old one.
    if holder.get("boot") != mine["boot"]:
        return True
    try:
        # Ids are used again within one boot too; the time of the start tells two processes apart.
        return bool(psutil.Process(holder["pid"]).create_time() != holder["started"])
    except psutil.NoSuchProcess:
        return True


def _contents(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def _parse(text: str) -> dict[str, Any]:
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _name(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', 'an unknown machine')}"
