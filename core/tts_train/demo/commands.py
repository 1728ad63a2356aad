"""Runs what a user would type: runs that are killed or compared in processes of their own, jobs as calls."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tts_train.contract.reports import Report
from tts_train.errors import TTSTrainError
from tts_train.jobs.run import perform_words

# One thread a process: two runs side by side do not disturb each other, and both round alike.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "PYTHONIOENCODING": "utf-8",
}
_TAIL = 2000


@dataclass
class Started:
    """A command that runs in the background."""

    words: Sequence[str]
    process: subprocess.Popen[str]
    began: float = field(default_factory=time.monotonic)

    def wait(self, *, expected: int = 0) -> Mapping[str, Any]:
        """Wait for the end and return what the command reported with ``--json``.

        Raises:
            TTSTrainError: with the end of its output, if the exit code is not the expected one.
        """
        out, err = self.process.communicate()
        # Read after both pipes are empty: waiting first would block on a full pipe.
        code = self.process.returncode
        if code != expected:
            raise TTSTrainError(f"`{self}` ended with exit code {code}, not {expected}:\n{err[-_TAIL:]}")
        # --json prints the report last; lines of others may stand before it.
        last = out.strip().splitlines()[-1:] or ["{}"]
        report: Mapping[str, Any] = json.loads(last[0]) if last[0].startswith("{") else {}
        return {**report, "wall_seconds": time.monotonic() - self.began}

    def __str__(self) -> str:
        return f"tts-train {' '.join(self.words)}"


def start(words: Sequence[str]) -> Started:
    """Start a command."""
    command = [sys.executable, "-m", "tts_train", *words]
    environment = {**os.environ, **_ENVIRONMENT}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return Started(words, subprocess.Popen(command, encoding="utf-8", env=environment, **pipes))  # type: ignore[call-overload]


def run(words: Sequence[str], *, expected: int = 0) -> Mapping[str, Any]:
    """Run a command to its end."""
    return start(words).wait(expected=expected)


def call(verb: str, words: Sequence[str]) -> Report:
    """Do a job in this process, with one thread and offline as the runs, and without what it says on the way.

    Raises:
        TTSTrainError: as the command would end, with the command.
    """
    with _alike(), contextlib.redirect_stderr(io.StringIO()):
        try:
            return perform_words(verb, words)
        except TTSTrainError as error:
            line = " ".join(["tts-train", verb, *words])
            raise TTSTrainError(f"`{line}` ended with exit code {error.exit_code}: {error}") from error


@contextlib.contextmanager
def _alike() -> Iterator[None]:
    # As the other commands have it: equal numbers need equal threads.
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
