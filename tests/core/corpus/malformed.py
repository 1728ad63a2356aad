"""The malformed corpus: files of every kind that breaks readers, each with what must be said about it."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.core.corpus.sounds import RATE, encoded, voice

Case = tuple[str, bytes, set[str]]
"""Name, content, and the verdicts that may be given: reasons, ``kept``, or ``kept:warning`` with that warning."""


def cases() -> Iterator[Case]:
    """Everything that is an ordinary file."""
    for group in (_no_audio, _short, _truncated, _fuzzed, _lying, _levels, _channels, _formats, _renamed):
        yield from group()


def odd_paths(folder: Path, outside: Path) -> Iterator[tuple[Path, str]]:
    """Things that are no ordinary file inside the folder, with the reason."""
    outside.write_bytes(encoded())
    makers: list[tuple[str, Callable[[Path], object], str]] = [
        ("fifo.wav", os.mkfifo, "not_regular"),
        ("folder.wav", lambda path: path.mkdir(), "not_regular"),
        ("outside.wav", lambda path: path.symlink_to(outside), "outside_root"),
        ("dangling.wav", lambda path: path.symlink_to(folder / "nothing.wav"), "missing"),
        ("loop.wav", lambda path: path.symlink_to(path), "missing"),
        ("zero.wav", lambda path: path.symlink_to("/dev/zero"), "outside_root"),
        ("absent.wav", lambda path: None, "missing"),
    ]
    for name, make, reason in makers:
        make(folder / name)
        yield folder / name, reason


def _no_audio() -> Iterator[Case]:
    generator = np.random.default_rng(1)
    for name, data in {
        "empty": b"",
        "four": b"RIFF",
        "text": b"this is a plain text file\n" * 50,
        "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 48044\n",
        "png": b"\x89PNG\r\n\x1a\n" + generator.bytes(500),
        "elf": b"\x7fELF\x02\x01\x01" + generator.bytes(500),
        "random": b"\x17\x03" + generator.bytes(5000),
        "zeros": bytes(5000),
        "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\nhttp://127.0.0.1:9/x.ts\n",
    }.items():
        yield f"{name}.wav", data, {"not_audio"}


def _short() -> Iterator[Case]:
    yield "header_only.wav", encoded()[:44], {"truncated"}
    yield "no_samples.wav", encoded(np.zeros(0, np.float32)), {"empty_audio"}
    yield "no_samples.ogg", encoded(format="OGG")[:200], {"empty_audio", "truncated"}
    yield "one_sample.wav", encoded(voice()[:1]), {"too_short"}
    yield "ten_ms.wav", encoded(voice()[: RATE // 100]), {"too_short"}
    yield "long.wav", encoded(voice(61, rate=8000), rate=8000), {"too_long"}


def _truncated() -> Iterator[Case]:
    kinds = {
        "wav": "WAV",
        "aiff": "AIFF",
        "w64": "W64",
        "au": "AU",
        "flac": "FLAC",
        "ogg": "OGG",
        "mp3": "MP3",
        "caf": "CAF",
    }
    for suffix, format in kinds.items():
        whole = encoded(format=format)
        for twentieth in range(2, 20):
            # What is left of a compressed file may break its decoder, be cut or be empty; it must never be kept.
            allowed = {"truncated"} if suffix == "wav" else {"truncated", "decode_error", "empty_audio", "not_audio"}
            yield f"cut_{twentieth}.{suffix}", whole[: len(whole) * twentieth // 20], allowed
    yield "cut_last_byte.wav", encoded()[:-1], {"truncated"}


def _fuzzed() -> Iterator[Case]:
    generator = np.random.default_rng(20)
    for number in range(20):
        data = bytearray(encoded())
        for place in generator.integers(0, 44, 6):
            data[place] = generator.integers(0, 256)
        yield f"fuzz_header_{number}.wav", bytes(data), {"any"}
    for format in ("FLAC", "OGG", "MP3", "WAV"):
        for number in range(8):
            data = bytearray(encoded(format=format))
            for place in generator.integers(0, len(data), 40):
                data[place] = generator.integers(0, 256)
            yield f"fuzz_{format}_{number}.wav", bytes(data), {"any"}


def _lying() -> Iterator[Case]:
    yield "size_4gb.wav", _patched(40, "<I", 0xFFFFFFFF), {"kept:streamed_header"}
    yield "size_10.wav", _patched(40, "<I", 10), {"truncated"}
    yield "size_0.wav", _patched(40, "<I", 0), {"kept:streamed_header"}
    yield "channels_1024.wav", _patched(22, "<H", 1024), {"implausible"}
    yield "channels_0.wav", _patched(22, "<H", 0), {"implausible"}
    yield "rate_1.wav", _patched(24, "<I", 1), {"implausible"}
    yield "rate_0.wav", _patched(24, "<I", 0), {"implausible"}
    yield "rate_400k.wav", _patched(24, "<I", 400_000), {"implausible"}
    yield "bits_0.wav", _patched(34, "<H", 0), {"implausible"}
    flac = bytearray(encoded(format="FLAC"))
    # STREAMINFO: the low four bits of byte 13 and the next four bytes are the number of samples.
    flac[8 + 13] |= 0x0F
    flac[8 + 14 : 8 + 18] = b"\xff" * 4
    yield "samples_2_36.flac", bytes(flac), {"implausible"}
    yield "chunk_loop.wav", encoded()[:36] + b"JUNK\0\0\0\0" * 5000, {"decode_error", "empty_audio", "not_audio"}


def _levels() -> Iterator[Case]:
    for name, value in {"nan": np.nan, "inf": np.inf}.items():
        sound = voice()
        sound[1000] = value
        yield f"{name}.wav", encoded(sound, subtype="FLOAT"), {"non_finite"}
    sound = voice()
    sound[1000] = 1e30
    yield "1e30.wav", encoded(sound, subtype="FLOAT"), {"clipped"}
    yield "silence.wav", encoded(np.zeros(RATE, np.float32)), {"silent"}
    yield "constant.wav", encoded(np.full(RATE, 0.2, np.float32)), {"silent"}
    yield "dc.wav", encoded(voice() + 0.2), {"kept:dc"}
    yield "hard_clipped.wav", encoded(np.clip(voice(level=4.0), -1, 1)), {"clipped"}
    yield "hot.wav", encoded(np.clip(voice(level=1.1), -0.9, 0.9)), {"kept", "kept:clipped"}
    yield "over.wav", encoded(voice(level=1.4), subtype="FLOAT"), {"kept:over_full_scale"}
    yield "quiet_u8.wav", encoded(voice(level=0.28), subtype="PCM_U8"), {"kept"}


def _channels() -> Iterator[Case]:
    left, right, silence = voice(), voice(seed=1), np.zeros(len(voice()), np.float32)
    yield "stereo.wav", encoded(np.stack([left, right], 1)), {"kept:stereo"}
    yield "one_sided.wav", encoded(np.stack([silence, right], 1)), {"kept:one_sided"}
    yield "anti_phase.wav", encoded(np.stack([left, -left], 1)), {"kept:anti_phase"}
    yield "six.wav", encoded(np.stack([left] * 6, 1)), {"too_many_channels"}


def _formats() -> Iterator[Case]:
    for subtype in ("PCM_U8", "PCM_24", "PCM_32", "DOUBLE", "FLOAT", "ALAW", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"):
        yield f"{subtype}.wav", encoded(subtype=subtype), {"kept"}
    for rate in (4_000, 8_000, 192_000):
        low = "kept:low_bandwidth" if rate < 16_000 else "kept"
        yield f"rate_{rate}.wav", encoded(voice(rate=rate), rate=rate), {low}
    for format in ("RF64", "WAVEX"):
        yield f"plain_{format}.wav", encoded(format=format), {"kept"}
    tagged = encoded() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    yield "chunk_behind.wav", tagged, {"kept"}
    yield "id3_behind.wav", encoded() + b"\0\0\0TAG" + b"x" * 125, {"kept"}


def _renamed() -> Iterator[Case]:
    for format, subtype in [
        ("FLAC", None),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
        ("AIFF", None),
        ("W64", None),
        ("CAF", None),
    ]:
        yield f"renamed_{format}_{subtype}.wav", encoded(format=format, subtype=subtype), {"kept:suffix_mismatch"}
    yield "renamed_wav.mp3", encoded(), {"kept:suffix_mismatch"}
    yield "no_suffix", encoded(), {"kept"}


def _patched(offset: int, layout: str, value: int) -> bytes:
    data = bytearray(encoded())
    data[offset : offset + struct.calcsize(layout)] = struct.pack(layout, value)
    return bytes(data)
