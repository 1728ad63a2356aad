"""Signals that come before training handles them itself: while libraries load and options are read."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tts_train.errors import Interrupted
from tts_train.parallel.processes import STOP


@contextmanager
def told_when_stopped(verb: str) -> Iterator[None]:
    """End a fit that is asked to stop in the block with a line and the exit code of an interruption.

    There is nothing to save yet, so the process ends at once: an exception could be lost in a library's import.
    """
    launched = os.environ.get("LOCAL_RANK", "0") != "0"  # by a first process, which has its own to say
    if verb != "fit" or launched or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in STOP if number != signal.SIGINT]  # which is KeyboardInterrupt
    owner = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a child that inherits this must die as it would without
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        name = signal.Signals(number).name
        # Not print: the signal may have come in the middle of one.
        os.write(2, f"tts-train: Stopped by {name} outside of training. The same command goes on.\n".encode())
        os._exit(Interrupted.exit_code)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
