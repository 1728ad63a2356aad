"""What a file claims to be, checked against its size before a decoder believes it."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MIN_RATE = 4_000
MAX_RATE = 384_000
MAX_CHANNELS = 8
LOW_RATE = 16_000
"""Rates that exist in speech, in Hz; below the last one a voice sounds dull."""

# ffmpeg, sox and others write the largest number they can when they do not know the length yet.
_UNKNOWN = "starts with "
_STREAMED = 0x7FFF0000
_NEEDS_AV = {b"\x1aE\xdf\xa3": "Matroska/WebM", b"0&\xb2u": "WMA", b"FLV": "FLV", b"#!AMR": "AMR"}
_HEAD = 4096
# So that no file keeps us busy.
_MAX_CHUNKS = 1000


class AudioRejected(Exception):
    """A recording that cannot be used; ``reason`` is a name from :data:`tts_train.corpus.reasons.REASONS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class MemoryFile(io.BytesIO):
    """An encoded file in memory, for decoders that damaged data sends to positions before its start."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as a file on disk does; a position before the start is refused by not moving."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is accepted as the recording of one utterance."""

    min_seconds: float = 0.1
    max_seconds: float = 60.0
    """About as much as speech models take in one sequence; longer recordings need cutting, not training."""
    silent_peak: float = 0.001
    """Peak, of full scale, below which there is nothing to hear (-60 dB)."""
    max_ratio: float = 200.0
    """Decoded 16-bit bytes per byte of file beyond which a long claim is not believed."""


def check_claim(*, frames: int, rate: int, channels: int, size: int, limits: Limits) -> None:
    """Refuse what no file of ``size`` bytes can hold, or what is no speech.

    Raises:
        AudioRejected: ``implausible``.
    """
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioRejected("implausible", f"the header claims {channels} channels")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioRejected("implausible", f"the header claims a sample rate of {rate} Hz")
    # Digital silence packs better than any ratio: believe a claim that is harmless.
    if frames / rate > limits.max_seconds and frames * channels * 2 > limits.max_ratio * size:
        raise AudioRejected("implausible", f"the header claims {frames} samples in a file of {size} bytes")


def check_container(file: BinaryIO) -> tuple[str, ...]:
    """Compare what a WAV or CAF header claims with the file's size; return warnings. The position ends at 0.

    Raises:
        AudioRejected: ``truncated``, ``implausible`` or ``empty_audio``.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    warnings: tuple[str, ...] = ()
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        warnings = _check_wav(file, ">" if head[:4] == b"RIFX" else "<", size)
    elif head[:4] == b"caff":
        _check_caf(file, size)
    file.seek(0)
    return warnings


def ogg_is_cut(file: BinaryIO) -> bool:
    """Tell whether the last page of an Ogg file is incomplete or is not marked as the last (RFC 3533, section 6)."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 17)))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"OggS\0")
    if at < 0 or len(tail) < at + 27 or len(tail) < at + 27 + tail[at + 26]:
        return True
    lacing = tail[at + 27 : at + 27 + tail[at + 26]]
    return not tail[at + 5] & 4 or at + 27 + len(lacing) + sum(lacing) > len(tail)


def foreign_format(file: BinaryIO) -> str | None:
    """Name the format if it is one that PyAV reads and libsndfile does not, else None.

    Only these are handed to FFmpeg: it also knows play lists, which make it open other files and addresses.
    """
    head = _peek(file)
    if head[4:8] == b"ftyp":
        return "MP4/M4A"
    if len(head) > 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    return next((name for mark, name in _NEEDS_AV.items() if head.startswith(mark)), None)


def headerless_format(file: BinaryIO, name: str) -> str | None:
    """Name the format of a file that has no header, which its suffix alone can tell; None for what is known not to be.

    Any bytes decode as G.722, so a web page or a picture under this suffix must be told apart first.
    """
    bare = name.lower().endswith(".g722") and describe(file).startswith(_UNKNOWN)
    return "G.722" if bare else None


def describe(file: BinaryIO) -> str:
    """Say what a file that is no audio seems to be."""
    head = _peek(file)
    lower = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "an empty file"
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not the file itself; run: git lfs pull"
    if lower.startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file itself; the download failed, repeat it"
    names = {
        b"\x89PNG": "a PNG picture",
        b"\xff\xd8\xff": "a JPEG picture",
        b"\x7fELF": "a program",
        b"PK": "a ZIP archive",
    }
    return next((name for mark, name in names.items() if head.startswith(mark)), f"{_UNKNOWN}{head[:8]!r}")


def _check_wav(file: BinaryIO, order: str, size: int) -> tuple[str, ...]:
    long_size = 0
    for name, start, length in _chunks(file, order, size):
        file.seek(start)
        if name == b"ds64" and length >= 24:
            long_size = int.from_bytes(file.read(16)[8:], "little")
        elif name == b"fmt " and length >= 16:
            _check_format(struct.unpack(order + "HHIIHH", file.read(16).ljust(16, b"\0")))
        elif name == b"data":
            return _check_data(file, long_size if length == 0xFFFFFFFF and long_size else length, start, size, order)
    return ()


def _check_caf(file: BinaryIO, size: int) -> None:
    """Apple's chunks: four letters and 64 bits of length, -1 for audio to the end of the file."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(12)
        if len(head) < 12:
            return
        length = int.from_bytes(head[4:], "big", signed=True)
        if length < 0:
            return
        at += 12 + length
        if head[:4] == b"data" and at > size:
            raise AudioRejected("truncated", f"{size - at + length} of {length} bytes of audio are there")


def _check_data(file: BinaryIO, length: int, start: int, size: int, order: str) -> tuple[str, ...]:
    present = size - start
    if length >= _STREAMED and length > present:
        return ("streamed_header",)
    if length > present:
        raise AudioRejected("truncated", f"{present} of {length} bytes of audio are there")
    if not length:
        raise AudioRejected("empty_audio", "the header says 0 bytes of audio")
    # What follows the audio must be chunks; sound that the header does not own up to means that the header is wrong.
    end = start + length + length % 2
    ends = [at + claimed for _, at, claimed in _chunks(file, order, size, at=end)]
    if size - end > length and not (ends and ends[-1] <= size + 1):
        raise AudioRejected("truncated", f"the header owns up to {length} of {present} bytes of audio")
    return ()


def _check_format(fields: tuple[int, ...]) -> None:
    tag, channels, rate, _, _, bits = fields
    check_claim(frames=0, rate=rate, channels=channels, size=0, limits=Limits())
    if tag == 1 and not bits:
        raise AudioRejected("implausible", "the header claims 0 bits a sample")


def _chunks(file: BinaryIO, order: str, size: int, *, at: int = 12) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, length) of RIFF chunks; stops at what is none."""
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or not all(32 <= byte < 127 for byte in head[:4]):
            return
        length = struct.unpack(order + "I", head[4:])[0]
        yield head[:4], at + 8, length
        at += 8 + length + length % 2
        if at >= size:
            return


def _peek(file: BinaryIO) -> bytes:
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(0)
    return head
