"""Decode audio in blocks with libsndfile, and with PyAV what libsndfile does not know."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from tts_train.corpus.containers import (
    AudioRejected,
    Limits,
    check_claim,
    check_container,
    describe,
    foreign_format,
    headerless_format,
    ogg_is_cut,
)
from tts_train.corpus.mpeg import with_known_length
from tts_train.corpus.stretch import Signal, silent_stderr, stretch

_BLOCK_SECONDS = 4
_NOT_RECOGNISED = 1
_COARSE = {"PCM_U8", "PCM_S8", "ALAW", "ULAW"}
# What libsndfile notes when AIFF, W64, RF64 or AU claim more bytes than there are.
_SHORT = re.compile(r"(?:FORM|SSND|riff|Riff size|Data Size)\s*:\s*(\d+) \(should be (\d+)\)")
_SUFFIXES = {
    "WAV": (".wav", ".wave"), "WAVEX": (".wav", ".wave"), "RF64": (".wav", ".rf64"), "FLAC": (".flac",),
    "MPEG": (".mp3",), "MP3": (".mp3",), "OGG": (".ogg", ".oga", ".opus"), "AIFF": (".aif", ".aiff", ".aifc"),
    "W64": (".w64",), "CAF": (".caf",), "AU": (".au", ".snd"),
}  # fmt: skip
# Encoders and decoders of MP3 differ in what they trim; a frame has 1152 samples.
_MP3_SLACK = 2 * 1152


def decode(file: BinaryIO, *, name: str, start: float | None, end: float | None, limits: Limits) -> Signal:
    """Decode a file, or the stretch from ``start`` to ``end`` seconds, whatever its suffix says.

    Raises:
        AudioRejected: see :func:`tts_train.corpus.audio.read_audio`.
    """
    warnings = check_container(file)
    file = with_known_length(file)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with silent_stderr(), _sound_file(file) as sound:
            signal = _read(sound, size, start, end, limits)
            _check_cut(sound, file, warnings)
            suffix = PurePath(name).suffix.lower()
            odd = bool(suffix) and suffix not in _SUFFIXES.get(sound.format, (suffix,))
    except soundfile.LibsndfileError as error:
        return _decode_other(file, name, error, start, end, limits)
    except (MemoryError, RuntimeError, ValueError, OSError) as error:
        raise AudioRejected("decode_error", str(error) or type(error).__name__) from None
    return Signal(signal.samples, signal.rate, signal.coarse, (*warnings, *(("suffix_mismatch",) if odd else ())))


def _sound_file(file: BinaryIO) -> Any:  # noqa: ANN401 - soundfile is not typed
    """Open by descriptor where there is one: no name reaches the library, and no suffix misleads it."""
    try:
        descriptor = file.fileno() if os.name == "posix" else None
    except OSError:
        descriptor = None
    if descriptor is None:
        return soundfile.SoundFile(file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return soundfile.SoundFile(descriptor, closefd=False)


def _read(sound: Any, size: int, start: float | None, end: float | None, limits: Limits) -> Signal:  # noqa: ANN401
    rate, frames = int(sound.samplerate), int(sound.frames)
    check_claim(frames=frames, rate=rate, channels=sound.channels, size=size, limits=limits)
    first, count = stretch(start, end, frames=frames, rate=rate, limits=limits)
    if first:
        sound.seek(first)
    blocks: list[NDArray[np.float32]] = []
    missing = count
    while missing and len(block := sound.read(min(missing, _BLOCK_SECONDS * rate), dtype="float32", always_2d=True)):
        blocks.append(block)
        missing -= len(block)
    if missing > (_MP3_SLACK if sound.format in {"MP3", "MPEG"} else 0):
        raise AudioRejected("truncated", f"{count - missing} of {count} samples could be read")
    if not blocks:
        raise AudioRejected("empty_audio", "0 samples")
    return Signal(np.concatenate(blocks), rate, sound.subtype in _COARSE)


def _check_cut(sound: Any, file: BinaryIO, warnings: tuple[str, ...]) -> None:  # noqa: ANN401
    if sound.format == "OGG" and ogg_is_cut(file):
        raise AudioRejected("truncated", "the last Ogg page is missing or incomplete")
    if sound.format in {"WAV", "WAVEX"} or "streamed_header" in warnings:
        return
    for claimed, present in _SHORT.findall(sound.extra_info):
        if int(present) < int(claimed) < 0x7FFF0000:
            raise AudioRejected("truncated", f"{present} of {claimed} bytes are there")


def _decode_other(
    file: BinaryIO,
    name: str,
    error: Any,  # noqa: ANN401 - soundfile is not typed
    start: float | None,
    end: float | None,
    limits: Limits,
) -> Signal:
    """Decode what libsndfile refused, or say why not."""
    foreign = foreign_format(file) or headerless_format(file, name)
    if foreign:
        from tts_train.corpus.decode_av import decode_av

        return decode_av(file, kind=foreign, start=start, end=end, limits=limits)
    if error.code == _NOT_RECOGNISED:
        raise AudioRejected("not_audio", describe(file)) from None
    if file.seek(0) == 0 and file.read(4) == b"OggS" and ogg_is_cut(file):
        raise AudioRejected("truncated", "the last Ogg page is missing or incomplete") from None
    raise AudioRejected("decode_error", str(error)) from None
