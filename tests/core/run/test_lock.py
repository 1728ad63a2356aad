"""One writer per run directory, also where the file system has no locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import time

import pytest

from tts_train.errors import RunLockedError
from tts_train.run.lock import RunLock, _identity


def hold(path) -> int:
    """Hold the lock in a forked child until it is killed."""
    child = os.fork()
    if child:
        while not (path.exists() and path.stat().st_size):
            time.sleep(0.01)
        return child
    with RunLock(path, heartbeat=0.1):
        time.sleep(60)
    os._exit(0)


@pytest.fixture
def no_locks(monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)


def check_exclusion(path) -> None:
    child = hold(path)
    with pytest.raises(RunLockedError, match=f"process {child} on "), RunLock(path, heartbeat=0.1):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with RunLock(path, heartbeat=0.1):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    with RunLock(path, heartbeat=0.1):
        pass


def test_second_is_refused_and_a_dead_holder_succeeded(tmp_path):
    check_exclusion(tmp_path / ".lock")


def test_the_same_by_heartbeat(tmp_path, no_locks):
    check_exclusion(tmp_path / ".lock")


def test_same_process_is_refused_too(tmp_path):
    with RunLock(tmp_path / ".lock"), pytest.raises(RunLockedError), RunLock(tmp_path / ".lock"):
        pass


def test_silent_holder_elsewhere_is_taken_over(tmp_path, no_locks):
    (tmp_path / ".lock").write_text(json.dumps({**_identity(), "host": "elsewhere", "beat": 4}))
    started = time.monotonic()
    with RunLock(tmp_path / ".lock", heartbeat=0.1):
        assert time.monotonic() - started >= 0.2


def test_workers_do_not_inherit_the_lock(tmp_path):
    with RunLock(tmp_path / ".lock"):
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
    with RunLock(tmp_path / ".lock"):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
