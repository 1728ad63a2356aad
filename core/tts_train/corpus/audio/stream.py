"""Read a recording of any length from its front, block by block: hours need no more memory than minutes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from tts_train.corpus.audio import decode, decode_av
from tts_train.corpus.audio.claims import open_container
from tts_train.corpus.audio.condition import OVER
from tts_train.corpus.audio.containers import AudioRejected, Limits, check_claim
from tts_train.corpus.audio.mpeg import with_known_length
from tts_train.corpus.audio.read import open_recording
from tts_train.corpus.audio.stretch import silent_stderr

LIMITS = Limits(max_seconds=48 * 3600)
"""A claim of up to two days needs no belief: nothing is set aside for it, and what is not there is noticed."""
MAX_CHANNELS = 2

# Frames of MP4 and the like are some 20 ms long; so many seconds of them make a block.
_BLOCK_SECONDS = 1.0
_FINE = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_20", "ALAC_24", "ALAC_32")
# Of formats that lose nothing the width of decoded samples says something.
_LOSSLESS = ("pcm_", "alac", "flac", "tta", "wavpack")


@dataclass(frozen=True, kw_only=True)
class SoundStream:
    """An open recording."""

    rate: int
    channels: int
    bits: int
    """16, or 24 where the file has more."""
    seconds: float
    """As the file claims; 0 where it does not say."""
    warnings: tuple[str, ...]
    blocks: Callable[[], Iterator[NDArray[np.float32]]]
    """Yields (time, channels) from the front, once.

    Raises AudioRejected: ``truncated``, ``empty_audio``, ``non_finite``, ``clipped`` (no sound, but numbers of another
    scale) or ``decode_error``. As elsewhere, a file that lacks its end is not used.
    """


@contextmanager
def open_stream(path: Path) -> Iterator[SoundStream]:
    """Open a recording in any container that :func:`tts_train.corpus.audio.read.read_audio` reads, by the same checks.

    Raises:
        AudioRejected: with a reason from :data:`tts_train.corpus.reasons.REASONS`.
    """
    with open_recording(path) as file:
        held = open_container(file)
        # The file as it is, or a view of it with the length put right.
        inner = with_known_length(held.file)
        size = inner.seek(0, os.SEEK_END)
        inner.seek(0)
        try:
            with silent_stderr():
                sound = decode.sound_file(inner)
        except soundfile.LibsndfileError as error:
            kind = decode.other_kind(inner, path.name, held.tag, error)
            with decode_av.opened(inner, kind) as container:
                yield _by_av(container, size, held.warnings)
            return
        except (RuntimeError, ValueError, OSError) as error:
            raise AudioRejected("decode_error", str(error) or type(error).__name__) from None
        with sound:
            yield _by_libsndfile(sound, inner, size, held.warnings)


def _by_libsndfile(sound: Any, file: BinaryIO, size: int, warnings: tuple[str, ...]) -> SoundStream:  # noqa: ANN401
    rate, frames, channels = int(sound.samplerate), int(sound.frames), int(sound.channels)
    check_claim(frames=frames, rate=rate, channels=channels, size=size, limits=LIMITS)
    _require_mono_or_stereo(channels)
    with _place_kept(file), silent_stderr():
        warnings += decode.check_cut(sound, file, warnings)
    return SoundStream(
        rate=rate,
        channels=channels,
        bits=24 if sound.subtype in _FINE else 16,
        seconds=frames / rate,
        warnings=warnings,
        blocks=lambda: _checked(decode.read_blocks(sound, frames)),
    )


def _by_av(container: Any, size: int, warnings: tuple[str, ...]) -> SoundStream:  # noqa: ANN401
    claimed = decode_av.claimed_seconds(container, size, LIMITS)
    stream = container.streams.audio[0]
    _require_mono_or_stereo(int(stream.channels))
    codec = stream.codec_context
    lossless, raw_bits = str(codec.name).startswith(_LOSSLESS), int(codec.format.bits if codec.format else 16)
    return SoundStream(
        rate=int(stream.rate),
        channels=int(stream.channels),
        bits=24 if lossless and raw_bits > 16 else 16,
        seconds=claimed,
        warnings=warnings,
        blocks=lambda: _checked(_av_blocks(container, claimed)),
    )


def _av_blocks(container: Any, claimed: float) -> Iterator[NDArray[np.float32]]:  # noqa: ANN401
    rate, frames, done = int(container.streams.audio[0].rate), 0, 0
    waiting: list[NDArray[np.float32]] = []
    for frame in decode_av.read_frames(container):
        waiting.append(decode_av.to_float(frame))
        done += frame.samples
        if done - frames >= _BLOCK_SECONDS * rate:
            yield np.concatenate(waiting)
            waiting, frames = [], done
    decode_av.require_claimed(done, rate, claimed)
    if waiting:
        yield np.concatenate(waiting)
    if not done:
        raise AudioRejected("empty_audio", "0 samples")


def _checked(blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Yield the blocks while they are numbers that can be sound, and keep the decoder quiet meanwhile."""
    while True:
        try:
            # Only while it decodes: progress goes to stderr between the blocks.
            with silent_stderr():
                block = next(blocks, None)
        except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
            raise AudioRejected("decode_error", str(error)) from None
        if block is None:
            return
        if not np.isfinite(block).all():
            raise AudioRejected("non_finite", f"{int(np.sum(~np.isfinite(block)))} samples are NaN or infinite")
        if (peak := float(np.abs(block).max(initial=0.0))) > OVER:
            raise AudioRejected("clipped", f"samples reach {peak:.3g} times full scale")
        yield block


def _require_mono_or_stereo(channels: int) -> None:
    if channels > MAX_CHANNELS:
        raise AudioRejected("too_many_channels", f"{channels} channels")


@contextmanager
def _place_kept(file: BinaryIO) -> Iterator[None]:
    """Put back where a decoder left a file that is read by others in the block."""
    try:
        descriptor = file.fileno() if os.name == "posix" else None
    except OSError:
        descriptor = None
    # The decoder reads by the descriptor, whose place is not that of Python's buffer.
    at = file.tell() if descriptor is None else os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        yield
    finally:
        if descriptor is None:
            file.seek(at)
        else:
            os.lseek(descriptor, at, os.SEEK_SET)
