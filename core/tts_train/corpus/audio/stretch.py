"""What decoding gives, and what every decoder needs: a stretch of a recording, and quiet C libraries."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tts_train.corpus.audio.containers import AudioRejected, Limits

_SEGMENT_SLACK = 0.1
# Descriptor 2 belongs to the whole process: a second thread would save the null device as the real one.
_stderr_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Signal:
    """Samples as the file has them."""

    samples: NDArray[np.float32]
    """(time, channels), not empty."""
    rate: int
    coarse: bool
    """Whether the file has 8-bit steps."""
    warnings: tuple[str, ...] = ()


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Keep C libraries from printing about each damaged file; Python's own messages wait outside."""
    with _stderr_lock:
        try:
            saved = os.dup(2)
        except OSError:
            yield  # there is no stderr to keep quiet
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(null)
            os.close(saved)


def stretch(start: float | None, end: float | None, *, frames: int, rate: int, limits: Limits) -> tuple[int, int]:
    """Return (first frame, number of frames) of a stretch in a file of ``frames`` frames.

    Raises:
        AudioRejected: ``empty_audio``, ``bad_segment``, ``too_short`` or ``too_long``.
    """
    if frames <= 0:
        raise AudioRejected("empty_audio", "0 samples")
    first = round((start or 0.0) * rate)
    last = frames if end is None else round(end * rate)
    if first >= frames or last > frames + _SEGMENT_SLACK * rate or last <= first:
        raise AudioRejected("bad_segment", f"from {start} to {end} s in a recording of {frames / rate:.2f} s")
    count = min(last, frames) - first
    check_seconds(count / rate, limits)
    return first, count


def check_seconds(seconds: float, limits: Limits) -> None:
    """Refuse what is shorter or longer than an utterance may be.

    Raises:
        AudioRejected: ``too_short`` or ``too_long``.
    """
    if seconds < limits.min_seconds:
        raise AudioRejected("too_short", f"{seconds:.3f} s, not at least {limits.min_seconds:g} s")
    if seconds > limits.max_seconds:
        raise AudioRejected("too_long", f"{seconds:.1f} s, not at most {limits.max_seconds:g} s")
