"""``corpus slice``: utterances at pauses, an account of every sample, and work that continues."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from tests.core.curation.slicing.joined import RATE, clips, cut, joined, refused, require_whole, write
from tts_train.cli import main
from tts_train.curation.folder import REMOVED, CorpusFolder
from tts_train.curation.slicing import many, settle
from tts_train.curation.speech import detectors
from tts_train.errors import Interrupted


@pytest.fixture(scope="module")
def talk():
    """Six sentences with long pauses."""
    return joined(6)


@pytest.mark.parametrize("detector", ["silero", "energy"])
@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_each_sentence_is_a_clip_with_its_margins(tmp_path, capsys, talk, detector, noise):
    sound = talk[0] + np.random.default_rng(0).normal(0, noise, len(talk[0])).astype(np.float32)
    path = write(tmp_path / "talk.wav", sound)
    report = cut(capsys, path, tmp_path / "out", "--detector", detector, "--margin", "0.15", "--min_seconds", "1")
    rows = CorpusFolder.open(tmp_path / "out").rows()
    assert report["rows"] == len(rows) == 6
    assert report["detector"] == detector
    for row, said in zip(rows, talk[1], strict=True):
        assert row.cut.start + 0.15 == pytest.approx(said.start, abs=0.05)
        assert row.cut.end - 0.15 == pytest.approx(said.end, abs=0.05)
        assert row.facts["margins"] == [0.15, 0.15]
    require_whole(tmp_path / "out", [len(sound)])
    assert sum(report["seconds"].values()) == pytest.approx(len(sound) / RATE, abs=0.01)


def test_a_clip_is_the_recording_sample_by_sample(tmp_path, capsys, talk):
    for bits in (16, 24):
        path = write(tmp_path / f"talk{bits}.wav", talk[0], subtype=f"PCM_{bits}")
        cut(capsys, path, tmp_path / f"out{bits}")
        whole = soundfile.read(path, dtype="int32")[0]
        for row in CorpusFolder.open(tmp_path / f"out{bits}").rows():
            clip = tmp_path / f"out{bits}" / row.audio
            assert soundfile.info(clip).subtype == f"PCM_{bits}"
            start = round(row.cut.start * RATE)
            sound = soundfile.read(clip, dtype="int32")[0]
            assert np.array_equal(sound, whole[start : start + len(sound)])


def test_two_channels_become_one_as_elsewhere(tmp_path, capsys, talk):
    write(tmp_path / "in" / "anti.wav", np.stack([talk[0], -talk[0]], axis=1))
    write(tmp_path / "in" / "right.wav", np.stack([np.zeros_like(talk[0]), talk[0]], axis=1))
    report = cut(capsys, tmp_path / "in", tmp_path / "out")
    assert report["warnings"] == {"anti_phase": 1, "one_sided": 1}
    rows = CorpusFolder.open(tmp_path / "out").rows()
    assert len(rows) % 2 == 0
    for row in rows:
        start = round(row.cut.start * RATE)
        sound = soundfile.read(tmp_path / "out" / row.audio, dtype="float32")[0]
        assert np.abs(sound - talk[0][start : start + len(sound)]).max() < 1e-4


def test_a_margin_does_not_reach_into_a_neighbour_and_all_adds_up(tmp_path, capsys):
    sound, _ = joined(6, pause=0.5)
    path = write(tmp_path / "talk.wav", sound)
    cut(capsys, path, tmp_path / "out", "--margin", "0.6", "--max_seconds", "4")
    rows = CorpusFolder.open(tmp_path / "out").rows()
    assert len(rows) > 2
    assert all(one.cut.end <= other.cut.start for one, other in itertools.pairwise(rows))
    assert all(row.seconds <= 4 for row in rows)
    require_whole(tmp_path / "out", [len(sound)])


def test_what_is_too_short_or_too_long_or_no_speech_has_that_fate(tmp_path, capsys):
    ((word, _),) = clips(1)
    quiet, tone = np.zeros(4 * RATE, np.float32), np.sin(np.arange(9 * RATE) * 0.2).astype(np.float32)
    sound = np.concatenate([quiet, word[: RATE // 2], quiet, 0.3 * tone, quiet])
    path = write(tmp_path / "odd.wav", sound)
    seconds = cut(capsys, path, tmp_path / "energy", "--max_seconds", "5", "--detector", "energy")["seconds"]
    # To loudness a tone is a word of nine seconds, which cannot be cut anywhere.
    assert seconds["too_short"] == pytest.approx(0.5, abs=0.15)
    assert seconds["too_long"] == pytest.approx(9, abs=0.1)
    seconds = cut(capsys, path, tmp_path / "silero", "--max_seconds", "5", "--detector", "silero")["seconds"]
    assert seconds["not_speech"] == pytest.approx(9, abs=0.1)
    for name in ("energy", "silero"):
        require_whole(tmp_path / name, [len(sound)])


def test_the_same_command_uses_what_is_there_and_another_setting_cuts_again(tmp_path, capsys, talk):
    path, out = write(tmp_path / "talk.wav", talk[0]), tmp_path / "out"
    assert cut(capsys, path, out)["reused"] == 0
    first = {file.name: file.stat().st_mtime_ns for file in (out / "clips").iterdir()}
    table = (out / "corpus.jsonl").read_bytes()
    assert cut(capsys, path, out)["reused"] == 1
    assert {file.name: file.stat().st_mtime_ns for file in (out / "clips").iterdir()} == first
    assert (out / "corpus.jsonl").read_bytes() == table
    next((out / "clips").iterdir()).unlink()
    assert cut(capsys, path, out)["reused"] == 0
    assert cut(capsys, path, out, "--margin", "0.1")["reused"] == 0
    rows = CorpusFolder.open(out).rows()
    # Nothing of the cuts before is left over.
    assert {file.name for file in (out / "clips").iterdir()} == {row.audio.split("/")[1] for row in rows}
    require_whole(out, [len(talk[0])])


def test_a_stop_between_recordings_is_continued(tmp_path, capsys, talk, monkeypatch):
    for name in ("a", "b"):
        write(tmp_path / "in" / f"{name}.wav", talk[0][: 8 * RATE] if name == "a" else talk[0])
    out = tmp_path / "out"
    chunk, done = many._chunk, []

    def stopping(recordings, **options):
        if done:
            raise Interrupted("Stopped.")
        done.append(recordings)
        return chunk(recordings, **options)

    monkeypatch.setattr(many, "_chunk", stopping)
    assert main(["corpus", "slice", str(tmp_path / "in"), "--out", str(out)]) == 75
    capsys.readouterr()
    assert not (out / "corpus.jsonl").exists()
    monkeypatch.undo()
    assert cut(capsys, tmp_path / "in", out)["reused"] == 1
    require_whole(out, [8 * RATE, len(talk[0])])


def test_a_kill_between_the_tables_and_the_clips_is_made_up_for(tmp_path, capsys, talk, monkeypatch):
    path, out = write(tmp_path / "talk.wav", talk[0]), tmp_path / "out"
    cut(capsys, path, out)

    def kill(*_, **__):
        raise Interrupted("Killed.")

    # Clips of the same names, with other ends: rows and sounds must not be mixed up.
    monkeypatch.setattr(settle, "_put", kill)
    assert main(["corpus", "slice", str(path), "--out", str(out), "--max_seconds", "3"]) == 75
    monkeypatch.undo()
    capsys.readouterr()
    assert cut(capsys, path, out, "--max_seconds", "3")["reused"] == 1
    require_whole(out, [len(talk[0])])
    # Neither is it mixed up where the next command wants something else.
    monkeypatch.setattr(settle, "_put", kill)
    assert main(["corpus", "slice", str(path), "--out", str(out), "--margin", "0.1"]) == 75
    monkeypatch.undo()
    capsys.readouterr()
    cut(capsys, path, out, "--margin", "0.3")
    require_whole(out, [len(talk[0])])
    assert not CorpusFolder.open(out).rows(REMOVED)


def test_what_was_measured_stays_with_a_row_that_is_cut_as_before(tmp_path, capsys, talk):
    path, out = write(tmp_path / "talk.wav", talk[0]), tmp_path / "out"
    cut(capsys, path, out)
    folder = CorpusFolder.open(out)
    folder.write([replace(row, facts={**row.facts, "dnsmos": 3.5}) for row in folder.rows()])
    cut(capsys, path, out, "--speaker", "Anna")
    assert {(row.speaker, row.facts["dnsmos"], len(row.facts)) for row in folder.rows()} == {("Anna", 3.5, 2)}


def test_a_text_that_was_written_stays_with_its_stretch_or_goes_to_the_removed_rows(tmp_path, capsys, talk):
    path, out = write(tmp_path / "talk.wav", talk[0]), tmp_path / "out"
    cut(capsys, path, out)
    folder = CorpusFolder.open(out)
    rows = folder.rows()
    lines = [{**row.as_dict(), "text": f"sentence {number}", "text_by": "person"} for number, row in enumerate(rows)]
    (out / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    # The end is another one: what lies before is cut as it was.
    write(path, talk[0][: round((rows[-1].cut.start + 1.0) * RATE)])
    report = cut(capsys, path, out, "--min_seconds", "1.5")
    kept, removed = [row.text for row in folder.rows() if row.text], folder.rows(REMOVED)
    assert len(kept) >= 3
    assert kept + [row.text for row in removed] == [line["text"] for line in lines]
    for row in removed:
        before = rows[int(row.text.split()[1])]
        assert soundfile.info(folder.clip(row)).frames == round(before.seconds * RATE)
    assert "worked on" in report["told"]
    require_whole(out, [round((rows[-1].cut.start + 1.0) * RATE)])


def test_a_row_that_a_person_removed_does_not_come_back(tmp_path, capsys, talk):
    path, out = write(tmp_path / "talk.wav", talk[0]), tmp_path / "out"
    cut(capsys, path, out)
    folder = CorpusFolder.open(out)
    rows = folder.rows()
    folder.write(rows[1:], removed=rows[:1])
    report = cut(capsys, path, out)
    assert [row.audio for row in folder.rows()] == [row.audio for row in rows[1:]]
    assert report["seconds"]["removed"] == pytest.approx(rows[0].seconds, abs=0.01)


def test_two_recordings_of_one_name_and_odd_names_all_live(tmp_path, capsys, talk):
    sound = talk[0][: 8 * RATE]
    names = ["x/talk.wav", "y/Talk.flac", "y/con.wav", "y/ein Gespräch: 1?.wav"]
    for name in names:
        write(tmp_path / "in" / name, sound)
    report = cut(capsys, tmp_path / "in", tmp_path / "out", "--speaker_from", "folder", "--language", "en")
    rows = CorpusFolder.open(tmp_path / "out").rows()
    assert {row.cut.recording for row in rows} == set(names)
    assert len({row.audio.lower() for row in rows}) == len(rows) == report["rows"]
    assert {row.speaker for row in rows} == {"x", "y"}
    assert not any(set(row.audio) & set('<>:"|?* ') for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not UTF-8")
def test_a_name_that_is_not_utf_8_is_spelt_in_escapes(tmp_path, capsys, talk):
    write(tmp_path / "in" / "talk.wav", talk[0][: 8 * RATE]).rename(
        os.fsdecode(os.fsencode(tmp_path) + b"/in/caf\xe9.wav")
    )
    for reused in (0, 1):
        assert cut(capsys, tmp_path / "in", tmp_path / "out")["reused"] == reused
    rows = CorpusFolder.open(tmp_path / "out").rows()
    # One letter, or a letter and its accent: two files here, which would have one name in the ledger.
    for name in ("caf\u00e9.wav", "cafe\u0301.wav"):
        write(tmp_path / "in" / name, talk[0][: 8 * RATE])
    assert "in another spelling" in refused(capsys, tmp_path / "in", tmp_path / "out")
    assert rows
    assert all(row.cut.recording == r"caf\xe9.wav" and row.audio.startswith("clips/caf_xe9-") for row in rows)


def test_without_the_network_loudness_decides_and_that_is_said(tmp_path, capsys, talk, monkeypatch):
    monkeypatch.setattr(detectors, "_missing", lambda: ["silero_vad"])
    path = write(tmp_path / "talk.wav", talk[0])
    report = cut(capsys, path, tmp_path / "out")
    assert report["detector"] == "energy"
    assert "pip install 'tts-train[corpus]'" in report["told"]
    assert report["rows"] > 3
    assert main(["corpus", "slice", str(path), "--out", str(tmp_path / "o"), "--detector", "silero"]) != 0
    assert "tts-train[corpus]" in capsys.readouterr().err


def test_the_commands_that_come_next_are_told(tmp_path, capsys, talk):
    path = write(tmp_path / "talk.wav", talk[0])
    report = cut(capsys, path, tmp_path / "a b")
    assert report["next"] == [f"tts-train corpus transcribe '{tmp_path}/a b'"], "check would drop rows without texts"
    assert main(["corpus", "slice", str(path), "--out", str(tmp_path / "a b")]) == 0
    assert "Next, a line at a time" in capsys.readouterr().out


def test_another_recording_of_the_same_name_is_not_taken_for_a_new_version(tmp_path, capsys, talk):
    cut(capsys, write(tmp_path / "1" / "talk.wav", talk[0]), tmp_path / "out")
    other = write(tmp_path / "2" / "talk.wav", talk[0][: 9 * RATE])
    assert "another recording named talk.wav" in refused(capsys, other, tmp_path / "out")
    # The same one from another place is no other.
    shutil.copy(tmp_path / "1" / "talk.wav", other)
    assert cut(capsys, other, tmp_path / "out")["reused"] == 1
