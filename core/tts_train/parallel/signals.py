"""What asks a process to stop and what ends it, where systems differ: Windows has few signals."""

from __future__ import annotations

import os
import signal

STOP = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGBREAK") if hasattr(signal, name))
"""What people, schedulers and, on Windows, Ctrl-Break and a closed window send to make a run stop."""

KILLED = -signal.SIGKILL if hasattr(signal, "SIGKILL") else 9
"""Exit code, as ``subprocess`` tells it, of a process that :func:`kill_this_process` has ended."""

HOW_TO_STOP = (
    "kill -TERM makes it save itself" if hasattr(signal, "SIGKILL") else "Ctrl-C in its window makes it save itself"
)
"""How another process of ours is asked to stop, for messages."""


def kill_this_process() -> None:
    """End this process at once, as a power cut would: no handler runs and nothing is flushed."""
    os.kill(os.getpid(), abs(KILLED))  # on Windows any number ends a process, with that exit code


def ignore_interruptions() -> None:
    """Leave Ctrl-C and the like to the parent, which stops this process when it is done with it.

    For processes that load or prepare data: a terminal sends Ctrl-C to all processes of a command at once.
    """
    for number in STOP:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
