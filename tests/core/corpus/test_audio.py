"""Every kind of damaged, lying or odd audio file gets its reason; good ones are read right."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.core.corpus.malformed import cases, odd_paths
from tests.core.corpus.sounds import RATE, TEXT, encoded, voice
from tests.peak import forget_peak, peak_kibibytes
from tts_train.corpus import Limits, read_audio
from tts_train.corpus.audio.containers import AudioRejected
from tts_train.corpus.audio.read import check_pace
from tts_train.corpus.reasons import REASONS, WARNINGS

ALL = list(cases())


def verdict(source: Path | bytes, **options: object) -> tuple[str, tuple[str, ...]]:
    try:
        audio = read_audio(source, **options)
    except AudioRejected as error:
        return next(reason for reason in REASONS if reason == error.reason), ()
    assert audio.samples.ndim == 1
    assert audio.samples.dtype == np.float32
    assert np.isfinite(audio.samples).all()
    assert set(audio.warnings) <= set(WARNINGS)
    return "kept", audio.warnings


@pytest.mark.parametrize(("name", "data", "expected"), ALL, ids=[case[0] for case in ALL])
def test_malformed_file(tmp_path: Path, name: str, data: bytes, expected: set[str]):
    path = tmp_path / name
    path.write_bytes(data)
    began = time.monotonic()
    found, warnings = verdict(path, sample_rate=RATE, root=tmp_path)
    assert time.monotonic() - began < 10
    named = {found, *(f"{found}:{warning}" for warning in warnings)}
    assert "any" in expected or named & expected, (named, expected)
    from_memory = verdict(data, sample_rate=RATE)
    assert from_memory == (found, tuple(warning for warning in warnings if warning != "suffix_mismatch"))


def test_the_corpus_has_every_kind():
    assert len(ALL) > 200
    assert len({name for name, _, _ in ALL}) == len(ALL)


def test_odd_paths_are_refused_at_once(tmp_path: Path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for path, reason in odd_paths(folder, tmp_path / "secret.wav"):
        began = time.monotonic()
        assert verdict(path, root=folder) == (reason, ()), path
        assert time.monotonic() - began < 1
    assert verdict(Path("/dev/zero")) == ("not_regular", ())
    assert verdict(folder / "outside.wav")[0] == "kept"


@pytest.mark.skipif(os.name != "posix", reason="files have other permissions on this system")
def test_unreadable():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own folders are closed to other users
        path = Path(folder) / "locked.wav"
        path.write_bytes(encoded())
        Path(folder).chmod(0o755)
        path.chmod(0)
        root = os.geteuid() == 0  # who may read everything
        try:
            os.seteuid(65534 if root else os.geteuid())
            found = verdict(path)[0]
        finally:
            os.seteuid(0 if root else os.geteuid())
    assert found == "unreadable"


@pytest.mark.parametrize(
    "name",
    ["ü é.wav", "🎤.wav", "'quote';$(touch pwned).wav", "-rf.wav", "x" * 200 + ".wav", "new\nline.wav", "e\u0301.wav"],
)
def test_names_are_only_names(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(encoded())
    assert verdict(tmp_path / name, root=tmp_path)[0] == "kept"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_names_that_are_no_text(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"\xff\xfe.wav")
    path.write_bytes(encoded())
    assert verdict(path, root=tmp_path)[0] == "kept"


def test_resamples_from_the_files_own_rate():
    for rate in (8_000, 22_050, 44_100):
        sound = voice(rate=rate)
        audio = read_audio(encoded(sound, rate=rate, subtype="FLOAT"), sample_rate=RATE)
        assert (audio.sample_rate, audio.source_rate) == (RATE, rate)
        assert audio.seconds == pytest.approx(1.5, abs=1e-3)
        np.testing.assert_array_equal(audio.samples, soxr.resample(sound, rate, RATE, quality="HQ"))


def test_a_stretch_is_exact(tmp_path: Path):
    sound = voice(3)
    for format in ("WAV", "FLAC"):
        whole = read_audio(encoded(sound, format=format)).samples
        part = read_audio(encoded(sound, format=format), start=0.5, end=1.25).samples
        np.testing.assert_array_equal(part, whole[RATE // 2 : RATE * 5 // 4])
    assert verdict(encoded(sound), start=2.0, end=9.0)[0] == "bad_segment"
    assert verdict(encoded(sound), start=3.5)[0] == "bad_segment"
    assert verdict(encoded(sound), start=1.0, end=1.01)[0] == "too_short"


def test_channels_are_mixed_as_warned():
    left, right = voice(), voice(seed=1)
    np.testing.assert_allclose(
        read_audio(encoded(np.stack([left, right], 1), subtype="FLOAT")).samples, (left + right) / 2, atol=1e-6
    )
    np.testing.assert_array_equal(read_audio(encoded(np.stack([left, -left], 1), subtype="FLOAT")).samples, left)
    np.testing.assert_array_equal(read_audio(encoded(np.stack([0 * left, right], 1), subtype="FLOAT")).samples, right)


def test_three_hours_cost_nothing(tmp_path: Path):
    path = tmp_path / "sparse.wav"
    data, size = bytearray(encoded(voice(5), rate=16_000)), 3 * 3600 * 16_000 * 2
    data[40:44] = size.to_bytes(4, "little")
    path.write_bytes(bytes(data))
    os.truncate(path, 44 + size)
    forget_peak()
    before = peak_kibibytes()
    assert verdict(path)[0] == "too_long"
    assert verdict(path, start=1.0, end=3.0)[0] == "kept"
    assert peak_kibibytes() - before < 50_000


def test_claims_are_checked_before_memory_is_asked_for():
    flac = next(data for name, data, _ in ALL if name == "samples_2_36.flac")
    program = (
        "import resource, sys\n"
        "from tts_train.corpus import read_audio, RowRejected as AudioRejected\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "try: read_audio(sys.stdin.buffer.read())\n"
        "except AudioRejected as error: sys.exit(error.reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=flac, capture_output=True, timeout=60)
    assert done.stderr.strip() == b"implausible"


def test_c_libraries_are_quiet(capfd: pytest.CaptureFixture[str]):
    for name, data, _ in ALL:
        if name.endswith(".mp3") or "MP3" in name:
            verdict(data)
    assert capfd.readouterr().err == ""
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def test_details_say_what_to_do():
    by_name = {name: data for name, data, _ in ALL}
    for name, words in {"lfs.wav": "git lfs pull", "html.wav": "web page", "empty.wav": "empty file"}.items():
        with pytest.raises(AudioRejected) as caught:
            read_audio(by_name[name])
        assert words in caught.value.detail


def _m4a(container: str = "mp4", codec: str = "aac", seconds: float = 1.5) -> bytes:
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48_000, layout="mono")
        sound = voice(seconds, rate=48_000)
        frame = av.AudioFrame.from_ndarray((sound[None] * 32767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("adts", "aac"), ("webm", "libopus")])
def test_pyav_reads_the_rest(container: str, codec: str):
    audio = read_audio(_m4a(container, codec), sample_rate=RATE)
    assert audio.seconds == pytest.approx(1.5, abs=0.1)
    assert audio.source_rate == 48_000
    sound = voice(1.5, rate=48_000)
    assert audio.levels.rms == pytest.approx(float(np.sqrt(np.mean(sound**2))), rel=0.1)
    part = read_audio(_m4a(container, codec), start=0.5, end=1.0)
    whole = read_audio(_m4a(container, codec))
    np.testing.assert_array_equal(part.samples, whole.samples[24_000:48_000])
    short = Limits(max_seconds=1.0)
    assert verdict(_m4a(container, codec, 3.0), start=2.2, limits=short)[0] == "kept"
    assert verdict(_m4a(container, codec, 3.0), limits=short)[0] == "too_long"
    assert verdict(_m4a(container, codec), start=0.0, end=70.0)[0] == "bad_segment"


def test_pyav_files_that_are_cut():
    whole = _m4a(seconds=3)
    for share in (0.2, 0.5, 0.9):
        assert verdict(whole[: int(len(whole) * share)])[0] in {"truncated", "decode_error"}
    webm = _m4a("webm", "libopus", seconds=5)
    assert verdict(webm[: len(webm) // 2])[0] in {"truncated", "decode_error"}


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    data = _m4a()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioRejected) as caught:
        read_audio(data)
    assert caught.value.reason == "needs_av"
    assert "pip install 'tts-train[av]'" in caught.value.detail


def test_no_file_opens_a_connection(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("av")
    opened: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: opened.append(address))
    playlist = next(data for name, data, _ in ALL if name == "playlist.wav")
    assert verdict(playlist)[0] == "not_audio"
    assert opened == []


@pytest.mark.parametrize("header", ["1", "0"])
@pytest.mark.parametrize("rate", [44_100, 24_000, 8_000])
@pytest.mark.parametrize("quality", [None, 5])
def test_mp3_is_read_whole_with_and_without_a_length(header: str, rate: int, quality: int | None):
    data, seconds = _mp3(header, rate, quality)
    audio = read_audio(data)
    assert audio.seconds == pytest.approx(seconds, abs=0.2)
    for share in (0.3, 0.7, 0.97):
        # Without a length, a file that ends where a frame ends looks whole.
        cuts = {verdict(data[: int(len(data) * share) - more])[0] for more in (0, 1)}
        assert cuts == {"truncated"} or (header == "0" and "truncated" in cuts)


def _mp3(header: str, rate: int, quality: int | None) -> tuple[bytes, float]:
    """Loud, silent, loud: with a varying bit rate, the first frames say nothing about the whole."""
    av = pytest.importorskip("av")
    sound = np.concatenate([1e-4 * voice(2, rate=rate), voice(2, rate=rate), 1e-4 * voice(2, rate=rate, seed=1)])
    file = io.BytesIO()
    with av.open(file, "w", format="mp3", options={"write_xing": header}) as output:
        stream = output.add_stream("libmp3lame", rate=rate, layout="mono")
        if quality is not None:
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = 118 * quality
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return file.getvalue(), len(sound) / rate


def test_nothing_but_a_reason_comes_out_of_damaged_files():
    generator = np.random.default_rng(3)
    wholes = [encoded(format=format) for format in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "W64", "CAF", "RF64", "AU")]
    wholes += [_m4a(), _m4a("adts"), _m4a("webm", "libopus"), _mp3("0", RATE, 5)[0]]
    for number in range(520):
        data = bytearray(wholes[number % len(wholes)])
        reach = len(data) if number % 2 else 120
        for place in generator.integers(0, reach, int(generator.integers(1, 30))):
            data[place] = generator.integers(0, 256)
        if number % 3 == 0:
            at = int(generator.integers(0, len(data)))
            data[at:at] = generator.bytes(int(generator.integers(1, 5000)))
        began = time.monotonic()
        verdict(bytes(data), sample_rate=RATE)
        assert time.monotonic() - began < 10


def test_limits_can_be_set():
    assert verdict(encoded(), limits=Limits(max_seconds=1.0))[0] == "too_long"
    assert verdict(encoded(), limits=Limits(min_seconds=2.0))[0] == "too_short"
    assert verdict(encoded(voice(level=0.01)), limits=Limits(silent_peak=0.1))[0] == "silent"


def test_pace():
    check_pace(TEXT, 2.0)
    check_pace("No.", 1.9)
    for text, seconds in (("Hello " * 40, 2.0), ("Hi.", 10.0)):
        with pytest.raises(AudioRejected) as caught:
            check_pace(text, seconds)
        assert caught.value.reason == "text_audio_mismatch"


def test_g722_has_no_header_and_is_known_by_its_suffix(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "raw.g722"
    tone = (np.sin(np.arange(16000) * 0.2) * 12000).astype(np.int16)
    with av.open(path, "w", format="g722") as output:
        stream = output.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    audio = read_audio(path, sample_rate=None)
    assert audio.source_rate == 16000
    assert audio.seconds == pytest.approx(1.0, abs=0.01)
    assert verdict(path)[0] == "kept"
    page = tmp_path / "page.g722"
    page.write_text("<html>404</html>")
    assert verdict(page)[0] == "not_audio"


def test_the_samples_as_decoded_are_kept_where_they_are_asked_for(tmp_path):
    both = np.stack([np.sin(np.arange(8000) / 9), np.cos(np.arange(8000) / 5) / 2], axis=1).astype(np.float32)
    soundfile.write(tmp_path / "two.wav", both, 16_000, subtype="FLOAT")
    audio = read_audio(tmp_path / "two.wav", sample_rate=8000, keep_raw=True)
    np.testing.assert_array_equal(audio.raw, both)
    assert (audio.source_rate, audio.sample_rate) == (16_000, 8000)
    assert read_audio(tmp_path / "two.wav").raw is None
