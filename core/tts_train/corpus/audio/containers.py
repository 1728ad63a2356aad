"""What a file is by its first bytes, and what no recording can be."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import BinaryIO

from tts_train.corpus.rows.utterance import RowRejected

MIN_RATE = 4_000
MAX_RATE = 384_000
MAX_CHANNELS = 8
LOW_RATE = 16_000
"""Rates that exist in speech, in Hz; below the last one a voice sounds dull."""

_UNKNOWN = "starts with "
_NEEDS_AV = {b"\x1aE\xdf\xa3": "Matroska/WebM", b"0&\xb2u": "WMA", b"FLV": "FLV", b"#!AMR": "AMR"}
WAV = "WAV in a coding of its own"
"""What PyAV is told of a WAV file that libsndfile cannot decode."""
_HEAD = 4096


class AudioRejected(RowRejected):
    """A recording that cannot be used; ``reason`` is a name from :data:`tts_train.corpus.reasons.REASONS`."""


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


def ogg_is_cut(file: BinaryIO) -> bool:
    """Tell whether the last page of an Ogg file is incomplete or is not marked as the last (RFC 3533, section 6)."""
    size = file.seek(0, os.SEEK_END)
    # Two of the longest pages that there are: a whole one is among them.
    file.seek(max(0, size - (1 << 17)))
    tail = file.read()
    file.seek(0)
    # A page: its mark, the version 0, flags in byte 5 (4 on the last page), the number of segments in byte 26.
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
    # ADTS: twelve set bits and layer 0, by which it differs from MP3.
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
    # Failed downloads leave what a server says under the name of the recording.
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


def _peek(file: BinaryIO) -> bytes:
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(0)
    return head
