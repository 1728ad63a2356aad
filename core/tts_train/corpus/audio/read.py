"""Read one recording safely: nothing hangs, nothing is read short in silence, every refusal has a reason."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from os import path as osp
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from tts_train.corpus.audio import condition, containers
from tts_train.corpus.audio.condition import Levels
from tts_train.corpus.audio.containers import AudioRejected, Limits, MemoryFile
from tts_train.corpus.audio.decode import decode
from tts_train.corpus.rows.files import is_inside
from tts_train.corpus.rows.utterance import TokenRow, Utterance

RowReader: TypeAlias = "Callable[[Utterance | TokenRow], Audio | None]"
"""Reads a row as a backend's ``prepare`` does before its networks are asked; raises RowRejected where that drops it.

A function of a module, or a ``partial`` of one, so that processes can import it; returns the sound, None for token ids.
"""
MIN_PACE = 2.0
MAX_PACE = 40.0
"""Characters per second between which speech and text can belong together."""

# A word such as "No." with some silence around it is slow without being wrong.
_ANY_PACE_BELOW = 2.0


@dataclass(frozen=True, slots=True)
class Audio:
    """Decoded sound."""

    samples: NDArray[np.float32]
    """(time,), mono; full scale is 1, lossy formats may go a little beyond."""
    sample_rate: int
    """Of :attr:`samples`, in Hz."""
    source_rate: int
    """Of the file, in Hz."""
    warnings: tuple[str, ...]
    """Names from :data:`tts_train.corpus.reasons.WARNINGS`."""
    levels: Levels
    """Measured at the file's own rate."""
    raw: NDArray[np.float32] | None = None
    """(time, channels) as decoded, at :attr:`source_rate`; only where it was asked for."""

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def read_audio(
    source: Path | bytes,
    *,
    sample_rate: int | None = None,
    start: float | None = None,
    end: float | None = None,
    root: Path | None = None,
    limits: Limits = Limits(),
    keep_raw: bool = False,
) -> Audio:
    """Read a recording, or a stretch of it, as mono at ``sample_rate`` Hz (None: the file's own rate).

    Args:
        source: a path, or the bytes of an audio file.
        sample_rate: rate to resample to, from the file's own.
        start: where the stretch begins, in seconds.
        end: where the stretch ends, in seconds.
        root: folder that the real path must not leave; None allows any.
        limits: lengths, rates and levels that are accepted.
        keep_raw: keep the samples as decoded, too.

    Raises:
        AudioRejected: with a reason from :data:`tts_train.corpus.reasons.REASONS`.
    """
    with open_recording(source, root) as file:
        name = "" if isinstance(source, bytes) else source.name
        signal = decode(file, name=name, start=start, end=end, limits=limits)
    mono, channel_warnings = condition.to_mono(signal.samples)
    mono, levels, level_warnings = condition.check_levels(mono, coarse=signal.coarse, limits=limits)
    rate = sample_rate or signal.rate
    if rate != signal.rate:
        # After the levels are checked: resampling rings at clipped peaks and hides them.
        mono = soxr.resample(mono, signal.rate, rate, quality="HQ").astype(np.float32, copy=False)
    low = ("low_bandwidth",) if signal.rate < containers.LOW_RATE else ()
    warnings = (*signal.warnings, *channel_warnings, *level_warnings, *low)
    return Audio(mono, rate, signal.rate, warnings, levels, signal.samples if keep_raw else None)


def read_utterance(
    utterance: Utterance,
    *,
    sample_rate: int | None = None,
    root: Path | None = None,
    limits: Limits = Limits(),
    keep_raw: bool = False,
) -> Audio:
    """Read the recording of an utterance and check that its length fits the text.

    Raises:
        AudioRejected: as :func:`read_audio`, or ``text_audio_mismatch``.
    """
    audio = read_audio(
        utterance.audio,
        sample_rate=sample_rate,
        start=utterance.start,
        end=utterance.end,
        root=root,
        limits=limits,
        keep_raw=keep_raw,
    )
    check_pace(utterance.text, audio.seconds)
    return audio


def read_row(
    row: Utterance | TokenRow, *, root: Path | None = None, limits: Limits = Limits(), keep_raw: bool = False
) -> Audio | None:
    """Read the recording of an utterance; a row that is tokenised already has none.

    Raises:
        AudioRejected: as :func:`read_utterance`.
    """
    return None if isinstance(row, TokenRow) else read_utterance(row, root=root, limits=limits, keep_raw=keep_raw)


def check_pace(text: str, seconds: float) -> None:
    """Make sure that this text can be said in this time.

    Raises:
        AudioRejected: ``text_audio_mismatch`` outside of 2 to 40 characters per second; a slow one only over 2 s.
    """
    pace = len(text) / seconds
    if pace > MAX_PACE or (pace < MIN_PACE and seconds > _ANY_PACE_BELOW):
        detail = f"{len(text)} characters in {seconds:.1f} s, {pace:.1f} per second, not {MIN_PACE:g} to {MAX_PACE:g}"
        raise AudioRejected("text_audio_mismatch", detail)


def open_recording(source: Path | bytes, root: Path | None = None) -> BinaryIO:
    """Open without following out of the root, and without waiting for the other end of a pipe.

    Raises:
        AudioRejected: ``outside_root``, ``missing``, ``not_regular`` or ``unreadable``.
    """
    if isinstance(source, bytes):
        return MemoryFile(source)
    if root is not None and not is_inside(osp.realpath(source), osp.realpath(root)):
        raise AudioRejected("outside_root", f"{str(source)!r} leads out of {str(root)!r}")
    try:
        # Opening some devices acts on them, so look first; look again at what was opened, which may be another file.
        _require_regular(source.stat().st_mode)
        # O_NONBLOCK: opening a pipe would wait for somebody who writes to it.
        descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        file = os.fdopen(descriptor, "rb")
        try:
            _require_regular(os.fstat(descriptor).st_mode)
        except AudioRejected:
            file.close()
            raise
    except FileNotFoundError:
        raise AudioRejected("missing", f"no file {str(source)!r}") from None
    except (OSError, ValueError) as error:
        # Links that lead to each other in a circle have no file behind them.
        reason = "missing" if getattr(error, "errno", None) == errno.ELOOP else "unreadable"
        raise AudioRejected(reason, f"{str(source)!r}: {error}") from None
    return file


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise AudioRejected("not_regular", "a folder, a pipe or a device")
