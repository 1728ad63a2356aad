"""Decode audio in blocks with libsndfile, and with PyAV what libsndfile does not know."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from tts_train.corpus.audio.claims import PLACEHOLDER, STREAMED, open_container
from tts_train.corpus.audio.containers import (
    WAV,
    AudioRejected,
    Limits,
    check_claim,
    describe,
    foreign_format,
    headerless_format,
    ogg_is_cut,
)
from tts_train.corpus.audio.mpeg import with_known_length
from tts_train.corpus.audio.stretch import Signal, silent_stderr, stretch

_BLOCK_SECONDS = 4
# libsndfile's SF_ERR_UNRECOGNISED_FORMAT.
_NOT_RECOGNISED = 1
# Codings in WAV that no other decoder is asked about: what libsndfile refuses of these is damaged.
_PLAIN = {0x0001, 0x0003, 0x0006, 0x0007}
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
        AudioRejected: see :func:`tts_train.corpus.audio.read.read_audio`.
    """
    held = open_container(file)
    warnings = held.warnings
    file = with_known_length(held.file)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        with silent_stderr(), sound_file(file) as sound:
            signal = _read(sound, size, start, end, limits)
            warnings += check_cut(sound, file, warnings)
            suffix = PurePath(name).suffix.lower()
            # Of an MP3 inside a WAV file libsndfile is given the MP3 alone, and .wav is right for the file.
            kind = "WAV" if held.tag is not None else sound.format
            odd = bool(suffix) and suffix not in _SUFFIXES.get(kind, (suffix,))
    except soundfile.LibsndfileError as error:
        signal = _decode_other(file, name, held.tag, error, start, end, limits)
        return replace(signal, warnings=(*warnings, *signal.warnings))
    except (MemoryError, RuntimeError, ValueError, OSError) as error:
        # A MemoryError has no text of its own.
        raise AudioRejected("decode_error", str(error) or type(error).__name__) from None
    return Signal(signal.samples, signal.rate, signal.coarse, (*warnings, *(("suffix_mismatch",) if odd else ())))


def sound_file(file: BinaryIO) -> Any:  # noqa: ANN401 - soundfile is not typed
    """Open by descriptor where there is one: no name reaches the library, and no suffix misleads it."""
    try:
        descriptor = file.fileno() if os.name == "posix" else None
    except OSError:
        descriptor = None
    if descriptor is None:
        return soundfile.SoundFile(file)
    os.lseek(descriptor, 0, os.SEEK_SET)
    # closefd: the file is the caller's, who may ask another decoder.
    return soundfile.SoundFile(descriptor, closefd=False)


def _read(sound: Any, size: int, start: float | None, end: float | None, limits: Limits) -> Signal:  # noqa: ANN401
    rate, frames = int(sound.samplerate), int(sound.frames)
    check_claim(frames=frames, rate=rate, channels=sound.channels, size=size, limits=limits)
    first, count = stretch(start, end, frames=frames, rate=rate, limits=limits)
    if first:
        sound.seek(first)
    return Signal(np.concatenate(list(read_blocks(sound, count))), rate, sound.subtype in _COARSE)


def read_blocks(sound: Any, count: int) -> Iterator[NDArray[np.float32]]:  # noqa: ANN401
    """Yield the next ``count`` frames as (time, channels), a few seconds at a time.

    Raises:
        AudioRejected: ``truncated`` or ``empty_audio``, where the file ends before.
    """
    missing, most = count, _BLOCK_SECONDS * int(sound.samplerate)
    # In blocks, for a header may claim more than memory holds and the file has.
    while missing and len(block := sound.read(min(missing, most), dtype="float32", always_2d=True)):
        missing -= len(block)
        yield block
    if missing > (_MP3_SLACK if sound.subtype.startswith("MPEG") else 0):
        raise AudioRejected("truncated", f"{count - missing} of {count} samples could be read")
    if missing == count:
        raise AudioRejected("empty_audio", "0 samples")


def check_cut(sound: Any, file: BinaryIO, warnings: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ANN401
    """Refuse what ends too early by its own account; return a warning where it does not know its length."""
    if sound.format == "OGG" and ogg_is_cut(file):
        raise AudioRejected("truncated", "the last Ogg page is missing or incomplete")
    # Of WAV files open_container has checked the claims.
    if sound.format in {"WAV", "WAVEX"} or warnings:
        return ()
    noted = [(int(claimed), int(present)) for claimed, present in _SHORT.findall(sound.extra_info)]
    for claimed, present in noted:
        if present < claimed < PLACEHOLDER:
            raise AudioRejected("truncated", f"{present} of {claimed} bytes are there")
    return STREAMED if any(claimed == 0 or claimed >= PLACEHOLDER for claimed, _ in noted) else ()


def _decode_other(
    file: BinaryIO,
    name: str,
    tag: int | None,
    error: Any,  # noqa: ANN401 - soundfile is not typed
    start: float | None,
    end: float | None,
    limits: Limits,
) -> Signal:
    """Decode what libsndfile refused, or say why not."""
    kind = other_kind(file, name, tag, error)
    from tts_train.corpus.audio.decode_av import decode_av

    return decode_av(file, kind=kind, start=start, end=end, limits=limits)


def other_kind(file: BinaryIO, name: str, tag: int | None, error: Any) -> str:  # noqa: ANN401 - soundfile is not typed
    """Name the format of a file that libsndfile refused and PyAV may read.

    Raises:
        AudioRejected: ``not_audio``, ``truncated`` or ``decode_error`` if it is none.
    """
    foreign = foreign_format(file) or headerless_format(file, name)
    if tag is not None and tag not in _PLAIN and error.code != _NOT_RECOGNISED:
        foreign = WAV
    if foreign:
        return foreign
    if error.code == _NOT_RECOGNISED:
        raise AudioRejected("not_audio", describe(file)) from None
    if file.seek(0) == 0 and file.read(4) == b"OggS" and ogg_is_cut(file):
        raise AudioRejected("truncated", "the last Ogg page is missing or incomplete") from None
    raise AudioRejected("decode_error", str(error)) from None
