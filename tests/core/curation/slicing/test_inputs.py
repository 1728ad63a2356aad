"""``corpus slice`` of what people have: damaged files, films without sound, an hour of silence, folders in folders."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.core.curation.slicing.joined import RATE, cut, joined, refused, require_whole, write
from tts_train.cli import main
from tts_train.curation.folder import CorpusFolder


def claims_ten_gigabytes(path):
    """A FLAC file whose head says more than two days, and whose sound is a second."""
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    data = bytearray(path.read_bytes())
    # STREAMINFO: the number of samples is the lower 36 bits of bytes 18 to 25 of the file.
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(data)


def film_without_sound(path):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(3):
            out.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        out.mux(stream.encode(None))


def test_what_cannot_be_read_is_named_and_the_rest_is_cut(tmp_path, capsys):
    folder = tmp_path / "in"
    sound, _ = joined(3)
    write(folder / "good.wav", sound)
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "pointer.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    claims_ten_gigabytes(folder / "huge.flac")
    film_without_sound(folder / "film.mp4")
    write(folder / "eight.wav", np.zeros((RATE, 8), np.float32))
    whole = write(folder / "cut.wav", sound).read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    report = cut(capsys, folder, tmp_path / "out")
    assert report["read"] == 1
    assert report["refused"] == {"not_audio": 3, "implausible": 1, "too_many_channels": 1, "truncated": 1}
    accounts = {one.recording: one for one in CorpusFolder.open(tmp_path / "out").recordings()}
    assert accounts["film.mp4"].refused == "not_audio"
    assert "without an audio stream" in accounts["film.mp4"].detail
    assert "git-lfs pointer" in accounts["pointer.wav"].detail
    for name, account in accounts.items():
        assert (name in report["told"]) == bool(account.refused)
    require_whole(tmp_path / "out", [len(sound)])


def test_nothing_that_can_be_read_ends_with_2_and_the_reasons(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.wav").write_bytes(b"")
    told = refused(capsys, tmp_path / "in", tmp_path / "out")
    assert "empty.wav: not_audio (an empty file)" in told
    assert "no recordings" in refused(capsys, tmp_path / "out", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert main(["corpus", "review", str(tmp_path / "nowhere")]) == 2
    assert f"There is nothing at {tmp_path / 'nowhere'}." in capsys.readouterr().err
    assert "There is no" in refused(capsys, tmp_path / "nowhere", tmp_path / "other")
    # What the refusal left behind is no obstacle.
    write(tmp_path / "in" / "good.wav", joined(2)[0])
    assert cut(capsys, tmp_path / "in", tmp_path / "out")["rows"] > 0


@pytest.mark.parametrize("detector", ["silero", "energy"])
def test_an_hour_of_silence_has_no_row_and_is_accounted_for(tmp_path, capsys, detector):
    hour = 3600 if detector == "energy" else 60
    path = write(tmp_path / "silence.flac", np.zeros(hour * 8000, np.int16), 8000)
    report = cut(capsys, path, tmp_path / "out", "--detector", detector)
    assert report["rows"] == 0
    assert report["seconds"] == {"kept": 0, "silence": hour}
    assert "next" not in report
    assert "No speech" in report["told"]
    require_whole(tmp_path / "out", [hour * 8000], rate=8000)


def test_hiss_and_hum_are_no_speech(tmp_path, capsys):
    rng = np.random.default_rng(0)
    hum = 0.05 * np.sin(np.arange(60 * 16000) * 2 * np.pi * 50 / 16000) + rng.normal(0, 0.003, 60 * 16000)
    path = write(tmp_path / "hum.wav", hum, 16000)
    for detector in ("silero", "energy"):
        assert cut(capsys, path, tmp_path / detector, "--detector", detector)["rows"] == 0


def test_loud_samples_beyond_full_scale_are_scaled_not_cut(tmp_path, capsys):
    sound, _ = joined(2)
    path = write(tmp_path / "loud.wav", sound / np.abs(sound).max() * 2, subtype="FLOAT")
    cut(capsys, path, tmp_path / "out")
    found = [soundfile.read(tmp_path / "out" / row.audio)[0] for row in CorpusFolder.open(tmp_path / "out").rows()]
    assert max(np.abs(one).max() for one in found) == pytest.approx(1, abs=0.001)
    row = CorpusFolder.open(tmp_path / "out").rows()[0]
    start = round(row.cut.start * RATE)
    expected = sound[start : start + len(found[0])] / np.abs(sound).max()
    assert np.abs(found[0] - expected).max() < 1e-3


def test_places_that_hold_each_other_and_settings_that_do_not_fit_are_refused(tmp_path, capsys):
    path = write(tmp_path / "in" / "talk.wav", joined(2)[0])
    assert "--out" in refused(capsys, tmp_path / "in", tmp_path / "in" / "out")
    assert "--out" in refused(capsys, tmp_path / "in", tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    assert "not empty" in refused(capsys, path, tmp_path / "full")
    assert "--min_seconds 9" in refused(capsys, path, tmp_path / "o", "--min_seconds", "9", "--max_seconds", "5")
    assert "--margin" in refused(capsys, path, tmp_path / "o", "--margin", "20")
    assert "Give one of them" in refused(capsys, path, tmp_path / "o", "--speaker", "a", "--speaker_from", "folder")


def test_a_recording_that_cannot_be_read_any_more_keeps_its_rows(tmp_path, capsys):
    path = write(tmp_path / "in" / "talk.wav", joined(2)[0])
    write(tmp_path / "in" / "other.wav", joined(2)[0][: 5 * RATE])
    before = cut(capsys, tmp_path / "in", tmp_path / "out")
    path.write_bytes(b"")
    after = cut(capsys, tmp_path / "in", tmp_path / "out")
    assert after["rows"] == before["rows"]
    assert "its rows stay" in after["told"]
    assert after["seconds"] == before["seconds"]


def test_help_loads_no_torch_and_lists_the_options(capsys):
    assert main(["corpus", "slice", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(option in told for option in ("--min_seconds", "--detector", "--subtitles", "--speaker_from"))


DEADLY = """
import os, signal, sys
from pathlib import Path

import tts_train.corpus.audio.decode as decode
from tts_train.curation.slicing.job import CorpusSlice

open_sound = decode.sound_file

def deadly(file):
    # What a decoder does that crashes; also in the processes of a pool, which import this file anew.
    file.seek(0)
    if b"DEADLY" in file.read():
        os.kill(os.getpid(), signal.SIGSEGV)
    return open_sound(file)

decode.sound_file = deadly

if __name__ == "__main__":
    report = CorpusSlice(recordings=Path(sys.argv[1]), out=Path(sys.argv[2]), workers=1).run()
    assert dict(report["refused"]) == {"decode_crash": 1}, report.as_dict()
"""


def test_a_recording_that_kills_its_decoder_is_named_and_the_rest_is_cut_as_in_one_process(tmp_path, capsys):
    sound, _ = joined(2)
    for name in "abc":
        path = write(tmp_path / "in" / f"{name}.wav", sound)
        if name == "b":
            path.write_bytes(path.read_bytes() + b"LIST\6\0\0\0DEADLY")
    script = tmp_path / "deadly.py"
    script.write_text(DEADLY)
    words = [sys.executable, script, tmp_path / "in", tmp_path / "out"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "b.wav is left out: decode_crash" in done.stderr
    require_whole(tmp_path / "out", [len(sound)] * 2)
    (tmp_path / "in" / "b.wav").unlink()
    cut(capsys, tmp_path / "in", tmp_path / "here")
    assert (tmp_path / "here" / "corpus.jsonl").read_bytes() == (tmp_path / "out" / "corpus.jsonl").read_bytes()
