"""What a process does besides its work: signals, where systems differ; its device; its end."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from tts_train.errors import ConfigError

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
        # SIGTERM stays: multiprocessing ends its processes by it (Process.terminate).
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)


_WORKER = "TTS_TRAIN_WORKER"


def choose_device(device: str) -> str:
    """Return ``cpu``, ``cuda`` or a device such as ``cuda:1`` for what the user said; ``auto`` prefers a GPU.

    Raises:
        ConfigError: if it is no device, or not on this machine.
    """
    import torch

    if device == "auto":
        # Not "cuda:0": which card a worker takes is decided in the worker.
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"--device is auto, cpu, cuda or cuda:N, not {device!r}.") from error
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices. Use auto.")
    return device


def set_worker(number: int) -> None:
    """Tell this process which of several workers it is; each takes its own GPU, in turn."""
    os.environ[_WORKER] = str(number)


def worker_number() -> int:
    """Return which of several workers this process is; 0 where it is none."""
    # By the environment, since processes that are spawned share no memory with the one that numbers them.
    return int(os.environ.get(_WORKER, "0"))


def own_device(device: str) -> str:
    """Return the device of this process: with ``cuda``, workers take the GPUs in turn."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{worker_number() % torch.cuda.device_count()}"


def leave(code: int) -> NoReturn:
    """End this process with an exit code.

    Threads of torch's process groups may hold the last reference to a tensor. Where one lets go of it while the
    interpreter is being finalized, the process aborts (torch 2.11, github.com/pytorch/pytorch/issues/190489): a run
    that has finished would end with SIGABRT, and a launcher would report that it failed. So a process that has joined
    a group waits for its threads, as one that writes a checkpoint, runs its exit handlers, which destroy the groups,
    and skips the rest of finalization.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        sys.exit(code)
    # What Python itself does before it finalizes, in its order; it has no public names for it.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):  # a pipe that nobody reads, a full disk, or closed
            stream.flush()
    os._exit(code)
