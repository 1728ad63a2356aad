"""Decode MP4, AAC, WebM and the like with PyAV, an optional dependency that brings FFmpeg along."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tts_train.corpus.audio.containers import WAV, AudioRejected, Limits, check_claim
from tts_train.corpus.audio.stretch import Signal, silent_stderr, stretch

# Encoders pad the ends; a file that lacks more than this has lost sound.
_SLACK_SECONDS = 0.25
_FORMATS = {
    "MP4/M4A": "mp4",
    "AAC": "aac",
    "Matroska/WebM": "matroska",
    "WMA": "asf",
    "FLV": "flv",
    "AMR": "amr",
    WAV: "wav",
    "G.722": "g722",  # raw, 16 kHz mono by its standard
}


def decode_av(file: BinaryIO, *, kind: str, start: float | None, end: float | None, limits: Limits) -> Signal:
    """Decode the first audio stream of a container whose kind is known by its first bytes.

    Raises:
        AudioRejected: ``needs_av`` if PyAV is not installed, else as :func:`tts_train.corpus.audio.decode.decode`.
    """
    size = file.seek(0, os.SEEK_END)
    with silent_stderr(), opened(file, kind) as container:
        return _read(container, size, start, end, limits)


@contextmanager
def opened(file: BinaryIO, kind: str) -> Iterator[Any]:
    """Yield a container that has sound in it; what FFmpeg refuses in the block is refused by reason.

    Raises:
        AudioRejected: ``needs_av``, ``not_audio`` or ``decode_error``.
    """
    try:
        import av
    except ImportError:
        raise AudioRejected("needs_av", f"{kind} needs PyAV: pip install 'tts-train[av]'") from None
    file.seek(0)
    try:
        # The format is said: FFmpeg would guess others, play lists among them, which open files and addresses.
        with av.open(file, mode="r", format=_FORMATS[kind]) as container:
            if not container.streams.audio:
                raise AudioRejected("not_audio", f"{kind} without an audio stream")
            if container.streams.audio[0].codec_context is None:
                raise AudioRejected("decode_error", "an audio stream in a format that FFmpeg does not know")
            yield container
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise AudioRejected("decode_error", f"{kind}: {error}") from None


def claimed_seconds(container: Any, size: int, limits: Limits) -> float:  # noqa: ANN401
    """Return how long the first audio stream says it is; 0 where it does not.

    Raises:
        AudioRejected: ``implausible``.
    """
    stream = container.streams.audio[0]
    # WebM has a duration for the whole file only, in microseconds.
    whole = (container.duration or 0) / 1e6
    claimed = float(stream.duration * stream.time_base) if stream.duration else whole
    rate, channels = int(stream.rate or 0), int(stream.channels or 0)
    check_claim(frames=int(claimed * rate), rate=rate, channels=channels, size=size, limits=limits)
    return claimed


def require_claimed(frames: int, rate: int, claimed: float) -> None:
    """Refuse what ended before the seconds that it claimed.

    Raises:
        AudioRejected: ``truncated``.
    """
    if claimed and frames < (claimed - _SLACK_SECONDS) * rate:
        raise AudioRejected("truncated", f"{frames / rate:.2f} of {claimed:.2f} s could be read")


def read_frames(container: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the decoded frames of the first audio stream.

    Raises:
        AudioRejected: ``decode_error`` where the rate changes.
    """
    rate = container.streams.audio[0].rate
    for frame in container.decode(audio=0):
        # What follows would be taken for another speed.
        if frame.sample_rate != rate:
            raise AudioRejected("decode_error", f"the sample rate changes from {rate} to {frame.sample_rate} Hz")
        yield frame


def _read(container: Any, size: int, start: float | None, end: float | None, limits: Limits) -> Signal:  # noqa: ANN401
    claimed, rate = claimed_seconds(container, size, limits), int(container.streams.audio[0].rate)
    # Decoding from the front keeps the stretch exact: seeking in these formats lands on key frames.
    skipped, until = round((start or 0.0) * rate), round((start or 0.0) * rate + (limits.max_seconds + 1) * rate)
    blocks, frames = _blocks(container, skipped, until)
    if end is None and frames < until - _SLACK_SECONDS * rate:
        require_claimed(frames, rate, claimed)
    first, count = stretch(start, end, frames=frames, rate=rate, limits=limits)
    samples = np.concatenate(blocks)
    at = first - (frames - len(samples))
    return Signal(samples[at : at + count], rate, coarse=False)


def _blocks(container: Any, skip: int, until: int) -> tuple[list[NDArray[np.float32]], int]:  # noqa: ANN401
    """Return the blocks from the one that holds frame ``skip`` to the one that holds ``until``, and where they end."""
    blocks: list[NDArray[np.float32]] = []
    done = 0
    for frame in read_frames(container):
        done += frame.samples
        if done > skip:
            blocks.append(to_float(frame))
        if done > until:
            break
    return blocks, done


def to_float(frame: Any) -> NDArray[np.float32]:  # noqa: ANN401
    """Return (time, channels) of one frame, whatever its sample format."""
    values = frame.to_ndarray()
    # Channels take turns in packed formats, and come as one row.
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if np.issubdtype(values.dtype, np.integer):
        # 8-bit samples have no sign: their silence is 128.
        offset = 128 if values.dtype == np.uint8 else 0
        scale = 128.0 if values.dtype == np.uint8 else float(np.iinfo(values.dtype).max) + 1
        values = (values.astype(np.float64) - offset) / scale
    return np.ascontiguousarray(values.T, dtype=np.float32)
