"""What a header says about its length: streamed files are read whole, cut ones are refused; codings inside WAV."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from tests.core.corpus.sounds import RATE, encoded, voice
from tts_train.corpus import read_audio
from tts_train.corpus.audio.containers import AudioRejected

SOUND = voice()
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"a writer 1.0\0\0"
UNKNOWN = (
    0,
    1_000_000_000,
    2_000_000_000,
    0x7FFFF000,
    0x7FFFFFFF - 36,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF - 36,
    0xFFFFFFFF,
)


def read(data: bytes | bytearray) -> tuple[str, tuple[str, ...], np.ndarray]:
    try:
        audio = read_audio(bytes(data))
    except AudioRejected as rejected:
        return rejected.reason, (), np.zeros(0)
    return "kept", audio.warnings, audio.samples


def patched(data: bytes, *fields: tuple[int, str, int]) -> bytearray:
    changed = bytearray(data)
    for at, layout, value in fields:
        struct.pack_into(layout, changed, at, value)
    return changed


def expect(data: bytes | bytearray, whole: np.ndarray, *, streamed: bool = True) -> None:
    found, warnings, samples = read(data)
    assert (found, "streamed_header" in warnings) == ("kept", streamed)
    np.testing.assert_array_equal(samples, whole)


@pytest.mark.parametrize("tail", [b"", LIST], ids=["plain", "chunks_behind"])
def test_a_streamed_wav_is_read_whole_and_nothing_else(tail):
    plain = encoded(SOUND)
    data, whole = plain + tail, read(plain)[2]
    honest, present = len(data) - 8, len(data) - 44
    for length in UNKNOWN:
        for riff in (honest, 0, 36, 0x7FFFFFFF, 0xFFFFFFFF, min(length + 36, 0xFFFFFFFF)):
            expect(patched(data, (40, "<I", length), (4, "<I", riff)), whole)
        # The length of the whole file is known, and it is not there.
        assert read(patched(data, (40, "<I", length))[: len(data) // 2])[0] == "truncated"
    for riff in (0, 0x7FFFFFFF, 2_000_000_036, 0xFFFFFFFF):
        expect(patched(data, (4, "<I", riff)), whole)
    # Honest lengths: of the audio that is there, and of some that is not.
    expect(data, whole, streamed=False)
    for length in (present + 2, 2 * present, 500_000_000):
        assert read(patched(data, (40, "<I", length), (4, "<I", length + 36)))[0] == "truncated"
    assert read(patched(encoded(np.zeros(0, np.float32)) + tail, (40, "<I", 0)))[0] == "empty_audio"


def test_other_containers_that_were_streamed():
    rf64, w64, au, aiff = (encoded(SOUND, format=format) for format in ("RF64", "W64", "AU", "AIFF"))
    data, common, sound = w64.index(b"data") + 16, aiff.index(b"COMM") + 10, aiff.index(b"SSND") + 4
    long = (0, 2_000_000_000, 0x7FFFFFFF, 2**64 - 1)
    cases = [
        (rf64, [((28, "<Q", length), (20, "<Q", riff)) for length in long for riff in (0, 2**64 - 1)]),
        (w64, [((data, "<Q", length), (16, "<Q", riff)) for length in (24, *long) for riff in (0, 2**64 - 1)]),
        (au, [((8, ">I", length),) for length in UNKNOWN]),
        (aiff, [((sound, ">I", n), (4, ">I", n), (common, ">I", n)) for n in (0, 0x7F000000, 0xFFFFFFFF)]),
    ]
    for whole, changes in cases:
        samples = read(whole)[2]
        expect(whole, samples, streamed=False)
        assert read(whole[: len(whole) // 2])[0] == "truncated"
        for fields in changes:
            expect(patched(whole, *fields), samples)


def wav(codec: str, rate: int) -> bytes:
    """A WAV file with another coding inside, as FFmpeg writes it."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as output:
        stream = output.add_stream(codec, rate=rate, layout="mono")
        coder = stream.codec_context
        coder.open()
        frame = av.AudioFrame.from_ndarray((voice(rate=rate)[None] * 32767).astype(np.int16), "s16", "mono")
        frame.sample_rate = rate
        fit = av.AudioResampler(coder.format, "mono", rate, frame_size=coder.frame_size or None)
        for part in [*fit.resample(frame), *fit.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize(
    ("codec", "rate", "extra"),
    [
        ("libmp3lame", RATE, 2 * 1152),
        ("libmp3lame", 44_100, 2 * 1152),
        ("mp2", RATE, 1152),
        ("adpcm_ms", RATE, 2048),
        ("adpcm_ima_wav", RATE, 2048),
        ("adpcm_yamaha", RATE, 2048),
        ("pcm_mulaw", 8_000, 0),
        ("pcm_alaw", 8_000, 0),
        ("g726", 8_000, 0),
        ("g722", 16_000, 0),
    ],
)
def test_codings_inside_wav(codec, rate, extra):
    data = wav(codec, rate)
    found, warnings, whole = read(data)
    assert found == "kept"
    assert not {"streamed_header", "suffix_mismatch"} & set(warnings)
    assert 0 <= len(whole) - 1.5 * rate <= extra
    at, fact = data.index(b"data") + 4, data.index(b"fact") + 8
    expect(patched(data, (at, "<I", 0xFFFFFFFF), (fact, "<I", 0xFFFFFFFF), (4, "<I", 0xFFFFFFFF)), whole)
    for end in (len(data) // 3, len(data) * 9 // 10):
        assert read(data[:end])[0] == "truncated"


def test_the_suffix_of_mp3_inside_wav_is_right_and_its_extension_is_read(tmp_path):
    data = wav("libmp3lame", RATE)
    path = tmp_path / "x.wav"
    path.write_bytes(data)
    assert read_audio(path).warnings == ()
    # WAVE_FORMAT_EXTENSIBLE: the coding stands in its last field.
    at, start = data.index(b"fmt "), data.index(b"data")
    form = struct.pack("<H", 0xFFFE) + data[at + 10 : at + 24] + struct.pack("<HHI", 22, 16, 4)
    form += struct.pack("<H", 0x55) + bytes.fromhex("000000001000800000aa00389b71")
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + data[start:]
    np.testing.assert_array_equal(read(b"RIFF" + struct.pack("<I", len(body)) + body)[2], read_audio(data).samples)
    for subtype in ("PCM_16", "FLOAT", "ULAW", "ALAW"):
        extended = encoded(SOUND, format="WAVEX", subtype=subtype)
        expect(patched(extended, (extended.index(b"data") + 4, "<I", 2_000_000_000)), read(extended)[2])
