"""Many ``tts-train`` commands at once, each in a process that was forked after the imports, which cost ten seconds."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

IMPORTS = (
    *("torch", "lightning", "transformers", "peft", "tts_train.training.run", "tts_train_orpheus.stage"),
    *("tts_train_gpt_sovits.stages.gpt.module", "tts_train_gpt_sovits.stages.gpt.data"),
    *("tts_train_gpt_sovits.stages.sovits.module", "tts_train_gpt_sovits.stages.sovits.data"),
)
"""Nothing that opens the card: a process forked after that cannot use it. bitsandbytes would."""

Chain = Generator[list[str], int, Any]
"""Yields one command after the other and is sent their exit codes; what it returns is its result."""


def run_chains(chains: dict[str, Chain], *, most: int, log: Path) -> dict[str, Any]:
    """Run chains of commands side by side; return their results, or the exception of one that failed."""
    for name in IMPORTS:
        importlib.import_module(name)
    import torch

    # A process that was forked after the card was opened cannot use it: then each imports for itself.
    context: Any = multiprocessing.get_context("spawn" if torch.cuda.is_initialized() else "fork")
    results: dict[str, Any] = {}
    waiting = deque(chains.items())
    running: dict[Any, tuple[Any, str, Chain]] = {}

    def start(name: str, chain: Chain, advance: Callable[[], list[str]]) -> None:
        try:
            words = advance()
        except StopIteration as end:
            results[name] = end.value
            return
        except Exception as error:  # noqa: BLE001 - one chain must not end the others
            results[name] = error
            return
        process = context.Process(target=_command, args=(words, log))
        process.start()
        running[process.sentinel] = (process, name, chain)

    while waiting or running:
        while waiting and len(running) < most:
            name, chain = waiting.popleft()
            start(name, chain, lambda chain=chain: next(chain))
        for sentinel in wait(list(running)) if running else ():
            process, name, chain = running.pop(sentinel)
            process.join()
            start(name, chain, lambda chain=chain, code=process.exitcode: chain.send(code))
    return results


def _command(words: list[str], log: Path) -> None:
    from tts_train.cli import main

    stream = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import torch

    torch.set_num_threads(1)  # side by side, and alike in every run
    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
