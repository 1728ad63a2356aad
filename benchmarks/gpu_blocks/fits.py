"""Runs ``tts-train`` commands in this process as they would be typed, measured by ``watch``."""

from __future__ import annotations

import gc
import io
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from gpu_blocks import watch
from gpu_blocks.job import Job

CALLBACKS = json.dumps([{"class_path": "gpu_blocks.watch.Watch"}])
_TAIL = 1500


class FitError(RuntimeError):
    """A command that did not end as it should; holds the end of what it said."""


class _Tee(io.StringIO):
    """Keeps what is written and passes it on."""

    def __init__(self, to: Any) -> None:
        super().__init__()
        self._to = to

    def write(self, text: str) -> int:
        """Write to both."""
        self._to.write(text)
        return super().write(text)

    def flush(self) -> None:
        """Flush the stream behind."""
        self._to.flush()


def command(words: Sequence[str], *, expected: int | None = 0) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code, what it printed and what it said on stderr.

    Raises:
        FitError: if the exit code is not the expected one.
    """
    from tts_train.cli import main

    out, err = _Tee(sys.stdout), _Tee(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        code = main(list(words))
    if expected is not None and code != expected:
        raise FitError(f"`tts-train {' '.join(words)}` ended with {code}: {err.getvalue()[-_TAIL:]}")
    return code, out.getvalue(), err.getvalue()


def fit(job: Job, words: Sequence[str], *, name: str, **asked: Any) -> watch.Measured:
    """Train as ``tts-train fit`` does, with its callbacks, and return what was measured; nothing stays on the device.

    Args:
        job: Device and folders.
        words: ``-c`` and a recipe, or ``--backend`` and its name, then options.
        name: Folder of the run.
        asked: Fields of ``Measured``.
    """
    watch.CURRENT = measured = watch.Measured(**asked)
    run = job.folder(name)
    clean(job)
    measured.called = time.perf_counter()
    try:
        with no_room_asked(), left_in_place():
            command(fit_words(job, run, words))
        if job.cuda:
            torch.cuda.synchronize()
    except BaseException:
        release(job, measured)
        raise
    measured.over = time.perf_counter()
    return measured


@contextmanager
def left_in_place() -> Iterator[None]:
    """Do not let Lightning move a network and its optimiser to host memory when a run is over.

    Of the 3.3 B model in float32 that is 40 GB, which are thrown away then.
    """
    from lightning.pytorch import LightningModule
    from lightning.pytorch.strategies import strategy

    with (
        patch.object(strategy, "_optimizers_to_device", lambda *_: None),
        patch.object(LightningModule, "cpu", lambda module: module),
    ):
        yield


def release(job: Job, measured: watch.Measured) -> None:
    """Forget a run's network, so that its memory is free for the next, whoever still knows it."""
    for optimizer in getattr(measured.trainer, "optimizers", None) or ():
        optimizer.state.clear()
    if measured.module is not None:
        for tensor in [*measured.module.parameters(), *measured.module.buffers()]:
            tensor.grad = None
            tensor.data = tensor.data.new_empty(0)
    measured.module = measured.trainer = None
    measured.at_start = measured.before = measured.after = None
    clean(job)


def clean(job: Job) -> None:
    """Collect garbage and give unused memory back."""
    gc.collect()
    if job.cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def fit_words(job: Job, run: Path, words: Sequence[str]) -> list[str]:
    """Return the command of a measured run; options override what stands before them, so a recipe comes first."""
    return ["fit", *words[:2], *common_words(job, run), *words[2:]]


def common_words(job: Job, run: Path) -> list[str]:
    """Return the options of every measured run: watched, no plan, no validation, no save on the way."""
    words = ["--run_dir", str(run), "--trainer.callbacks", CALLBACKS, "--trainer.max_steps", "1000"]
    return [*words, "--checkpoint.every_n_steps", "100000", *quiet_words(job)]


def quiet_words(job: Job) -> list[str]:
    """Return the options of every run: nothing that is not training, on the job's device."""
    words = ["--plan", "off", "--data.val_share", "0", "--trainer.limit_val_batches", "0"]
    words += ["--trainer.num_sanity_val_steps", "0", "--trainer.enable_progress_bar", "false"]
    words += ["--checkpoint.monitor", "null", "--listen.sentences", "0"]
    return words + device_words(job)


def device_words(job: Job) -> list[str]:
    """Return the options that choose the device."""
    if job.cuda:
        return ["--trainer.accelerator", "gpu", "--trainer.devices", "1"]
    return ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--data.num_workers", "0"]


def no_room_asked() -> Any:
    """Do not ask for room for five checkpoints of 13 to 38 GB that a measured run never writes."""
    from tts_train.run.directory import RunDirectory

    return patch.object(RunDirectory, "check_space", lambda *_, **__: None)
