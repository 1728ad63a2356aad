"""A recording in a stream is the same sound as one that is read whole, and is refused for the same reasons."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.peak import forget_peak, peak_kibibytes
from tts_train.corpus.audio import mpeg
from tts_train.corpus.audio.condition import to_mono
from tts_train.corpus.audio.containers import AudioRejected
from tts_train.corpus.audio.read import read_audio
from tts_train.corpus.audio.stream import open_stream

RATE = 22050


def noise(seconds: float, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (int(seconds * RATE), channels)).astype(np.float32)


def streamed(path: Path) -> np.ndarray:
    with open_stream(path) as stream:
        return np.concatenate(list(stream.blocks()))


@pytest.mark.parametrize(
    ("name", "options", "bits"),
    [
        ("a.wav", {}, 16),
        ("a.flac", {"subtype": "PCM_24"}, 24),
        ("a.wav", {"subtype": "FLOAT"}, 24),
        ("a.ogg", {}, 16),
        ("a.mp3", {}, 16),
        ("a.w64", {}, 16),
    ],
)
def test_blocks_are_the_sound_that_is_read_whole(tmp_path, name, options, bits):
    soundfile.write(tmp_path / name, noise(9.5, 2), RATE, **options)
    with open_stream(tmp_path / name) as stream:
        blocks = list(stream.blocks())
    assert (stream.rate, stream.channels, stream.bits) == (RATE, 2, bits)
    assert len(blocks) > 2
    assert np.array_equal(to_mono(np.concatenate(blocks))[0], read_audio(tmp_path / name).samples)


def test_mp4_is_read_in_blocks_by_av(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.m4a"), "w") as out:
        stream = out.add_stream("aac", rate=44100, layout="mono")
        for start in range(0, 4 * 44100, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 20)[None].astype(np.float32) / 2
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.rate, frame.pts = 44100, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert np.array_equal(streamed(tmp_path / "a.m4a")[:, 0], read_audio(tmp_path / "a.m4a").samples)


def test_an_mp3_that_does_not_say_its_length_is_a_view_of_the_file_with_a_head(tmp_path):
    soundfile.write(tmp_path / "a.mp3", noise(5), RATE)
    data = (tmp_path / "a.mp3").read_bytes()
    start, _, frame = mpeg._first_frame(io.BytesIO(data))
    # Without the frame that says the length.
    (tmp_path / "b.mp3").write_bytes(data[start + frame.length :])
    with (tmp_path / "b.mp3").open("rb") as file:
        seen = mpeg.with_known_length(file)
        assert b"Xing" in seen.read(64)
        assert seen.seek(0, 2) > len(data) - frame.length
    assert len(streamed(tmp_path / "b.mp3")) >= 5 * RATE
    (tmp_path / "c.mp3").write_bytes(data[start + frame.length : -20])
    with pytest.raises(AudioRejected, match="truncated"):
        streamed(tmp_path / "c.mp3")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "an empty file"), (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer")],
)
def test_what_is_no_sound_is_refused_by_what_it_is(tmp_path, content, reason):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioRejected, match=reason):
        streamed(tmp_path / "a.wav")


def test_eight_channels_are_refused_by_name(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 8), RATE)
    with pytest.raises(AudioRejected, match="too_many_channels"):
        streamed(tmp_path / "a.wav")


def test_a_flac_that_lacks_its_end_and_a_float_that_is_no_number_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(9), RATE)
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioRejected, match=r"truncated|decode_error"):
        streamed(tmp_path / "a.flac")
    wrong = noise(9)
    wrong[-1] = np.nan
    soundfile.write(tmp_path / "b.wav", wrong, RATE, subtype="FLOAT")
    with pytest.raises(AudioRejected, match="non_finite"):
        streamed(tmp_path / "b.wav")


def test_twenty_minutes_take_no_more_memory_than_one_block(tmp_path):
    # Decoded, they are 106 MB; digital silence packs better than 200 to 1, which a stream need not doubt.
    soundfile.write(tmp_path / "a.flac", np.zeros((20 * 60 * RATE, 1), np.float32), RATE)
    with open_stream(tmp_path / "a.flac") as stream:
        blocks = stream.blocks()
        next(blocks)
        before = peak_kibibytes()
        forget_peak()
        assert sum(len(block) for block in blocks) > 19 * 60 * RATE
    assert peak_kibibytes() - before < 30_000
