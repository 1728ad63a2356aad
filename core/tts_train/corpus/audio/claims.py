"""The length of the audio that a header claims, against the file: cut short, unknown when it was written, or right."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from tts_train.corpus.audio.containers import AudioRejected, Limits, check_claim
from tts_train.corpus.audio.views import patched, view

PLACEHOLDER = 1_000_000_000
"""Bytes from which a claim that the file does not keep is no length but the largest number the writer could think of.

Who streams does not know the length yet: ffmpeg, sox, arecord and servers write 0, 0x7FFFFFFF and its neighbours,
2,000,000,000 or 0xFFFFFFFF. An honest file of this size is hours long, and only stretches of it are of any use.
"""
STREAMED = ("streamed_header",)
_MOST = 0xFFFFFFF0
MPEG_TAGS = (0x50, 0x55)
_EXTENSIBLE, _GUID = 0xFFFE, bytes.fromhex("000000001000800000aa00389b71")
# So that no file keeps us busy.
_MAX_CHUNKS = 1000
# Chunks that writers append behind the audio; looked for at the end only where the header does not say where it ends.
_BEHIND = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"_PMX", b"cue ", b"smpl", b"fact", b"PEAK", b"JUNK", b"PAD ")
_TAIL = 1 << 18


class Container(NamedTuple):
    """A file whose claims were checked."""

    file: BinaryIO
    """What a decoder is given: the file, a view of it with the length put right, or the MPEG stream inside of it."""
    warnings: tuple[str, ...] = ()
    tag: int | None = None
    """Number of the coding of a WAV file."""


class _Claim(NamedTuple):
    """What the header of a WAV file says: where the audio starts, its bytes, and those of the whole file."""

    start: int
    length: int
    whole: int


def open_container(file: BinaryIO) -> Container:
    """Compare what the header of a WAV, RF64, W64, AU or CAF file claims with its size. The position ends at 0.

    Raises:
        AudioRejected: ``truncated``, ``implausible`` or ``empty_audio``.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(40)
    found = Container(file)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        found = _check_wav(file, head, size)
    elif head[:4] == b"riff" and head[24:28] == b"wave":
        found = _check_w64(file, head, size)
    elif head[:4] in (b".snd", b"dns."):
        found = _check_au(file, head, size)
    elif head[:4] == b"caff":
        _check_caf(file, size)
    found.file.seek(0)
    return found


def _check_wav(file: BinaryIO, head: bytes, size: int) -> Container:
    order = ">" if head[:4] == b"RIFX" else "<"
    whole, long_whole, long_size, tag = struct.unpack(order + "I", head[4:8])[0], 0, 0, None
    fact: dict[int, bytes] = {}
    for name, start, length in _chunks(file, order, size):
        file.seek(start)
        if name == b"ds64" and length >= 24:
            long_whole, long_size = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
        elif name == b"fmt " and length >= 16:
            tag = _check_format(file.read(min(length, 40)), order)
        elif name == b"fact":
            fact = {start - 8: b"JUNK"}
        elif name == b"data":
            # RF64 keeps lengths that 32 bits cannot hold in its chunk ds64, and says so by this number.
            is_long = length == 0xFFFFFFFF and head[:4] in (b"RF64", b"BW64")
            claim = _Claim(start, long_size if is_long else length, (long_whole if is_long else whole) + 8)
            present, warnings = _audio_bytes(file, claim, size, order)
            if tag in MPEG_TAGS:
                # From here on it is an MPEG file, in which with_known_length counts the frames.
                return Container(view(file, start=start, length=present), warnings, tag)
            # A length that does not fit into 32 bits cannot be put right there.
            if not warnings or present > _MOST:
                return Container(file, warnings, tag)
            sizes = {start - 4: struct.pack(order + "I", present), 4: struct.pack(order + "I", min(size - 8, _MOST))}
            # The number of samples was no better known than the bytes.
            # RF64 is renamed as well: by that name a decoder would take the length from ds64, which is wrong.
            patches = sizes | fact | ({0: b"RIFF"} if is_long else {})
            return Container(patched(file, patches), warnings, tag)
    return Container(file, tag=tag)


def _audio_bytes(file: BinaryIO, claim: _Claim, size: int, order: str) -> tuple[int, tuple[str, ...]]:
    """Return how many bytes of a WAV file are audio, and warnings."""
    start, length, whole = claim
    present = size - start
    unknown = length >= PLACEHOLDER and length > present
    if length > present and not unknown:
        raise AudioRejected("truncated", f"{present} of {length} bytes of audio are there")
    # What follows the audio must be chunks; sound that the header does not own up to means that the header is wrong.
    end = start + length + length % 2
    # Less than the audio itself may be tags or rubbish that a broken editor left behind.
    more = not unknown and size - end > length and not _are_chunks(file, order, size, end)
    if length and more:
        raise AudioRejected("truncated", f"the header owns up to {length} of {present} bytes of audio")
    if not (unknown or more):
        if not length:
            raise AudioRejected("empty_audio", "the header says 0 bytes of audio")
        # The length of the audio is right, and only that of the file was never filled in.
        odd = whole - 8 in (0, 0xFFFFFFFF) or (whole - 8 >= PLACEHOLDER and whole > size)
        return length, STREAMED if odd else ()
    _require_whole(whole, size)
    present = _end_of_audio(file, order, start, size) - start
    if not present:
        raise AudioRejected("truncated" if length else "empty_audio", "no audio follows the header")
    return present, STREAMED


def _check_w64(file: BinaryIO, head: bytes, size: int) -> Container:
    """Sony's chunks: sixteen bytes of name, and 64 bits of length that count the chunk's head, too."""
    at, whole = 40, struct.unpack("<Q", head[16:24])[0]
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        chunk = file.read(24)
        if len(chunk) < 24:
            break
        length = struct.unpack("<Q", chunk[16:])[0]
        if chunk[:4] == b"data":
            present = size - at - 24
            if _is_streamed(length - 24 if length > 24 else 0, present):
                _require_whole(whole, size)
                patches = {at + 16: struct.pack("<Q", present + 24), 16: struct.pack("<Q", size)}
                return Container(patched(file, patches), STREAMED)
            odd = whole in (0, 0xFFFFFFFFFFFFFFFF) or whole > max(size, PLACEHOLDER)
            return Container(patched(file, {16: struct.pack("<Q", size)}), STREAMED) if odd else Container(file)
        # Chunks of W64 begin at multiples of 8 bytes.
        at += length + -length % 8
        # Less than the chunk's own head is no length, and would lead nowhere.
        if length < 24 or at >= size:
            break
    return Container(file)


def _check_au(file: BinaryIO, head: bytes, size: int) -> Container:
    order = ">" if head[:4] == b".snd" else "<"
    if len(head) < 24:
        return Container(file)
    start, length = struct.unpack(order + "II", head[4:12])
    if _is_streamed(length, size - start):
        return Container(patched(file, {8: struct.pack(order + "I", min(size - start, _MOST))}), STREAMED)
    return Container(file)


def _require_whole(whole: int, size: int) -> None:
    """Where the length of the audio is unknown, that of the file may be honest."""
    if size < whole < PLACEHOLDER:
        raise AudioRejected("truncated", f"{size} of {whole} bytes of the file are there")


def _is_streamed(length: int, present: int) -> bool:
    """Tell for formats with nothing behind the audio; refuse an honest length that is not there."""
    if present < length < PLACEHOLDER:
        raise AudioRejected("truncated", f"{max(present, 0)} of {length} bytes of audio are there")
    if present <= 0:
        raise AudioRejected("empty_audio", "no audio follows the header")
    return length > present or not length


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
        if at > size:
            return


def _check_format(data: bytes, order: str) -> int:
    """Refuse what is no speech; return the number of the coding, that of the extension where there is one."""
    tag, channels, rate, _, _, bits = struct.unpack(order + "HHIIHH", data[:16].ljust(16, b"\0"))
    check_claim(frames=0, rate=rate, channels=channels, size=0, limits=Limits())
    # Writers of more than two channels or 16 bits put the real coding behind this one.
    if tag == _EXTENSIBLE and data[26:40] == _GUID:
        tag = struct.unpack(order + "H", data[24:26])[0]
    if tag == 1 and not bits:
        raise AudioRejected("implausible", "the header claims 0 bits a sample")
    return int(tag)


def _are_chunks(file: BinaryIO, order: str, size: int, at: int) -> bool:
    ends = [start + length for _, start, length in _chunks(file, order, size, at=at)]
    return bool(ends) and ends[-1] <= size + 1


def _end_of_audio(file: BinaryIO, order: str, start: int, size: int) -> int:
    """Where chunks begin that fill the rest of the file; its end where none do."""
    first = max(start, size - _TAIL)
    file.seek(first)
    tail = file.read()
    # Chunks begin at even places, counted from the audio.
    for at in range((first - start) % 2, len(tail) - 7, 2):
        if tail[at : at + 4] in _BEHIND and _are_chunks(file, order, size, first + at):
            return first + at
    return size


def _chunks(file: BinaryIO, order: str, size: int, *, at: int = 12) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, length) of RIFF chunks; stops at what is none."""
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or not all(32 <= byte < 127 for byte in head[:4]):
            return
        length = struct.unpack(order + "I", head[4:])[0]
        yield head[:4], at + 8, length
        # RIFF pads chunks of odd length by a byte that they do not count.
        at += 8 + length + length % 2
        if at >= size:
            return
