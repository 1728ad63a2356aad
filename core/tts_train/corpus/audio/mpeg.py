"""MP3 files say how long they are only in an optional first frame; count the frames where it is missing.

Why not a library: mutagen (GPL-2.0-or-later, which does not fit beside Apache-2.0) estimates the length from one bit
rate where the frame is missing, and FFmpeg, by PyAV, decodes to other samples than libsndfile, so sets prepared before
would change; it stays an extra for formats that libsndfile does not know.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, NamedTuple

from tts_train.corpus.audio.containers import AudioRejected
from tts_train.corpus.audio.views import view

# kbit/s by index, for layer III of MPEG 1 and of MPEG 2 and 2.5 (ISO/IEC 11172-3, 13818-3).
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_HAS_FRAMES, _HAS_BYTES = 1, 2
_SEARCH = 1 << 16


class _Frame(NamedTuple):
    length: int
    side: int
    """Bytes from the frame's start to where a Xing header would stand."""


def with_known_length(file: BinaryIO) -> BinaryIO:
    """Return an MP3 file that says how long it is: this one, or a view of it with a Xing header in front.

    Without that header libsndfile guesses from the size and the first frame's bit rate, and stops there: of a file
    with a varying bit rate it reads a fraction. Files that are no MPEG layer III are returned as they are.

    Raises:
        AudioRejected: ``truncated`` if the file is shorter than its header or its last frame says.
    """
    size = file.seek(0, os.SEEK_END)
    first = _first_frame(file)
    if first is None:
        return file
    start, header, frame = first
    claimed = _claimed_bytes(file, start, frame)
    if claimed is not None:
        if claimed > size - start:
            raise AudioRejected("truncated", f"{size - start} of {claimed} bytes of audio are there")
        file.seek(0)
        return file
    count, left = _count(file, start, size)
    if left:
        raise AudioRejected("truncated", f"the last frame lacks {left} bytes")
    length = size - start
    return view(file, head=_xing(header, frame, count, length), start=start, length=length)


def _first_frame(file: BinaryIO) -> tuple[int, bytes, _Frame] | None:
    """Return (position, header, frame) of the first frame that another one follows."""
    file.seek(0)
    head = file.read(10)
    tag = 0
    if head[:3] == b"ID3" and len(head) == 10:
        # ID3v2 gives its size in four bytes of seven bits each, and does not count its ten bytes of head.
        tag = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(tag)
    data = file.read(_SEARCH)
    # Tags may be padded; a sync anywhere else is chance, in a file of another format.
    at = len(data) - len(data.lstrip(b"\0")) if tag else 0
    # Two headers in a row: eleven set bits alone stand in every other file.
    frame = _parse(data[at : at + 4])
    if frame and _parse(data[at + frame.length : at + frame.length + 4]):
        return tag + at, data[at : at + 4], frame
    return None


def _parse(header: bytes) -> _Frame | None:
    # Eleven set bits, and 01, which stands for layer III.
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    # Version 1 and rate 3 are reserved, bit rate 15 is forbidden, and 0 says nothing of the length.
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    kilobits = (_BITRATES_1 if version == 3 else _BITRATES_2)[bitrate]
    # 1152 samples a frame in MPEG 1 and 576 in the others, over 8 bits a byte, times 1000 bits a kilobit.
    length = (144000 if version == 3 else 72000) * kilobits // _RATES[version][rate] + (header[2] >> 1 & 1)
    mono = header[3] >> 6 == 3
    # Bytes of side information between the frame's head and the place of a Xing header, fewer in mono.
    side = {(True, True): 17, (True, False): 32, (False, True): 9, (False, False): 17}[version == 3, mono]
    return _Frame(length, 4 + side)


def _claimed_bytes(file: BinaryIO, start: int, frame: _Frame) -> int | None:
    """The length in bytes that the first frame gives; None without a Xing header, 0 if it leaves the bytes out."""
    file.seek(start + frame.side)
    data = file.read(16)
    if data[:4] not in (b"Xing", b"Info") or len(data) < 16:
        return None
    flags = int.from_bytes(data[4:8], "big")
    if not flags & _HAS_FRAMES:
        return None
    return int.from_bytes(data[12:16], "big") if flags & _HAS_BYTES else 0


def _count(file: BinaryIO, at: int, size: int) -> tuple[int, int]:
    """Return (number of frames, bytes that the last one lacks); ends at a tag or anything else that is no frame."""
    count = 0
    # Frame by frame from the file: hours of MP3 are never in memory as a whole.
    while frame := _parse(_bytes(file, at, 4)):
        count += 1
        at += frame.length
        if at > size:
            return count, at - size
    return count, 0


def _bytes(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _xing(header: bytes, frame: _Frame, count: int, size: int) -> bytes:
    """Make a silent frame like the file's own that holds the number of frames and bytes."""
    version = header[1] >> 3 & 3
    # 64 kbit/s leave room for the fields at every rate; no checksum, no padding.
    index = 5 if version == 3 else 8
    head = bytes([0xFF, header[1] | 1, index << 4 | header[2] & 0x0C, header[3]])
    parsed = _parse(head)
    length = parsed.length if parsed else 0
    fields = b"Xing" + struct.pack(">III", _HAS_FRAMES | _HAS_BYTES, count, size + length)
    return head.ljust(frame.side, b"\0") + fields + bytes(length - frame.side - len(fields))
