"""The end of a process: as one of several it leaves without Python's finalization, in which torch may abort."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End this process with an exit code.

    Threads of torch's process groups may hold the last reference to a tensor. Where one lets go of it while the
    interpreter is being finalized, the process aborts (torch 2.11, github.com/pytorch/pytorch/issues/190489): a run
    that has finished would end with SIGABRT, and a launcher would report that it failed. So a process that has joined
    a group ends behind its exit handlers, which destroy the groups, and skips finalization.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
