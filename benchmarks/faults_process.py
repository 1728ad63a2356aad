"""Children forked from a warm parent: run, killed, limited, and read afterwards.

A fork of a process that has torch imported and runs no second thread of torch's is, from its first line on, what a
fresh process would be after its imports; real command lines beside it prove that the results are the same.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 300.0
"""Seconds after which a child that does not end is killed and counted as hung."""
HUNG = 999


def fork(work: Callable[[], object], *, log: Path, temporary: Path | None = None) -> int:
    """Run ``work`` in a child with its own session, its output in ``log`` and its TMPDIR; return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.setsid()
        _speak_into(log)
        if temporary is not None:
            temporary.mkdir(parents=True, exist_ok=True)
            os.environ["TMPDIR"] = str(temporary)
            tempfile.tempdir = None
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        work()
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:  # noqa: BLE001 - the child ends here, whatever it was
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(child: int) -> int:
    """Return a child's exit code, negative for a signal, HUNG after PATIENCE; what it left running is ended."""
    end = time.monotonic() + PATIENCE
    while True:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return HUNG
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def run(work: Callable[[], object], *, log: Path, temporary: Path | None = None) -> int:
    """Run ``work`` in a child to its end."""
    return wait(fork(work, log=log, temporary=temporary))


def until(condition: Callable[[], bool], child: int) -> bool:
    """Wait for something that a child does; False if the child ended first (it is not reaped)."""
    while not condition():
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return condition()
        time.sleep(0.002)
    return True


def children_of(process: int) -> list[int]:
    """Return the numbers of a process's children."""
    return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()]


def last_line(log: Path) -> str:
    """Return the last line that a child said: for a traceback, its error."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


def size_of(folder: Path) -> int:
    """Return the bytes of all regular files below a folder."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())


@contextmanager
def small_disk(folder: Path, mebibytes: float, *, options: str = "") -> Iterator[bool]:
    """Make a folder a file system of its own of that size; yields whether that was allowed (it needs root)."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = f"size={int(mebibytes * 1024)}k{options}"
    command = ["mount", "-t", "tmpfs", "-o", settings, "faults", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Fill a small disk but for ``leave`` bytes; return the file that does it."""
    path = folder / "filler"
    free = os.statvfs(folder)
    with suppress(OSError), path.open("wb") as file:
        left = free.f_bavail * free.f_frsize - leave
        while left > 0:
            left -= file.write(bytes(min(left, 1 << 16)))
            file.flush()
    return path


def _speak_into(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(target, stream)
    os.close(target)
