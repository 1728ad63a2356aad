"""The end of a process: as one of several it leaves without Python's finalization, in which torch may abort."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn


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
