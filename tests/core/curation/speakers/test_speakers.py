"""``corpus speakers``: two voices are told apart, names are kept and given, a table renames."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest
import soundfile
import soxr

from tts_train.cli import main
from tts_train.curation.folder import CorpusFolder
from tts_train.curation.row import ClipRow
from tts_train.demo.journey import VOICE
from tts_train.scoring.metrics.speaker import SpeakerSimilarity

FIRST, SECOND = 10, 4


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A corpus folder of two voices: the demo's, and the same played slower, which is lower."""
    if lack := SpeakerSimilarity().missing():
        pytest.skip(f"NO VOICE WAS COMPARED: {lack}")
    folder = tmp_path_factory.mktemp("voices")
    (folder / "clips").mkdir()
    rows = []
    for number, wav in enumerate(sorted((VOICE / "wavs").iterdir())[: FIRST + SECOND]):
        samples, rate = soundfile.read(wav, dtype="float32")
        if number >= FIRST:
            samples = soxr.resample(samples, 0.7, 1.0)
        name = f"clips/{number:02}.wav"
        soundfile.write(folder / name, samples, rate)
        rows.append(ClipRow(audio=name, seconds=round(len(samples) / rate, 3), text="Said."))
    CorpusFolder(folder).write(rows)
    assert main(["corpus", "speakers", str(folder)]) == 0
    return folder


@pytest.fixture
def folder(measured):
    """The folder with its measures, and its rows as they were before."""
    made = CorpusFolder(measured)
    made.write([ClipRow(audio=row.audio, seconds=row.seconds, text=row.text) for row in made.rows()])
    return made


def speakers(capsys, *words) -> dict:
    assert main(["corpus", "speakers", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys, *words) -> str:
    assert main(["corpus", "speakers", *map(str, words)]) == 2
    return capsys.readouterr().err


def named(folder, names):
    rows = [
        ClipRow.from_dict({**row.as_dict(), "speaker": name}) for row, name in zip(folder.rows(), names, strict=True)
    ]
    folder.write(rows)


def test_two_voices_are_two_clusters_by_size(folder, capsys):
    report = speakers(capsys, folder.path)
    assert [voice["clips"] for voice in report["clusters"].values()] == [FIRST, SECOND]
    assert [row.speaker for row in folder.rows()] == ["speaker-1"] * FIRST + ["speaker-2"] * SECOND
    assert all(0.7 < row.facts["speaker_likeness"] <= 1 for row in folder.rows())
    assert [row.facts["speaker_cluster"] for row in folder.rows()] == [1] * FIRST + [2] * SECOND
    assert report["rows_in"] == report["rows"] == FIRST + SECOND
    assert report["seconds"]["kept"] == pytest.approx(sum(row.seconds for row in folder.rows()), abs=0.01)
    assert report["next"][0] == f"tts-train corpus speakers {folder.path} --names {folder.path / 'speakers.csv'}"
    with (folder.path / "speakers.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [(line["speaker"], line["name"]) for line in table] == [("speaker-1", ""), ("speaker-2", "")]
    assert all((folder.path / line[f"clip_{number}"]).is_file() for line in table for number in (1, 2, 3))
    assert speakers(capsys, folder.path) == report


def test_names_that_came_with_the_corpus_stay_and_contradictions_are_told(folder, capsys):
    names = ["Ann"] * FIRST + ["Bob"] * SECOND
    names[2] = "Bob"
    named(folder, names)
    report = speakers(capsys, folder.path)
    rows = folder.rows()
    assert [row.speaker for row in rows] == names
    assert rows[2].facts["speaker_like_other"] == "Ann"
    assert report["contradictions"] == 1
    assert report["outlying"] == {"clips/02.wav": "is called Bob and sounds like Ann"}


def test_clips_without_a_name_take_that_of_their_cluster(folder, capsys):
    named(folder, ["Ann"] * (FIRST - 1) + [None] * (SECOND + 1))
    speakers(capsys, folder.path)
    rows = folder.rows()
    assert [row.speaker for row in rows] == ["Ann"] * FIRST + ["speaker-1"] * SECOND
    assert [row.facts.get("speaker_by") for row in rows] == [None] * (FIRST - 1) + ["cluster"] * (SECOND + 1)


def test_one_wrong_name_does_not_spread(folder, capsys):
    names = ["Ann"] * FIRST + [None] * SECOND
    names[-1] = "Ann"
    named(folder, names)
    report = speakers(capsys, folder.path)
    assert [row.speaker for row in folder.rows()] == ["Ann"] * FIRST + ["speaker-1"] * (SECOND - 1) + ["Ann"]
    assert report["outlying"] == {f"clips/{FIRST + SECOND - 1}.wav": "is called Ann and sounds like speaker-1"}


def test_a_table_that_a_person_edited_renames(folder, capsys):
    speakers(capsys, folder.path)
    table = folder.path / "speakers.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    # As a spreadsheet of another country saves it.
    edited = "\ufeff" + "\r\n".join([lines[0], f"{lines[1]}Zoë Müller", lines[2]]).replace(",", ";") + "\r\n"
    (folder.path / "edited.csv").write_text(edited, encoding="utf-8", newline="")
    report = speakers(capsys, folder.path, "--names", folder.path / "edited.csv")
    assert (report["renamed"], report["speakers"]) == (FIRST, {"Zoë Müller": FIRST, "speaker-2": SECOND})
    assert folder.rows()[0].facts["speaker_before"] == "speaker-1"
    again = table.read_text(encoding="utf-8").splitlines()
    assert again[1].startswith("1,Zoë Müller,10,")
    assert again[1].split(",")[4:7] == lines[1].split(",")[4:7]
    # A name that a person gave stays when voices are told apart again.
    speakers(capsys, folder.path)
    assert [row.speaker for row in folder.rows()] == ["Zoë Müller"] * FIRST + ["speaker-1"] * SECOND


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "needs the columns cluster, speaker and name"),
        ("cluster,speaker,name\n1,speaker-1,\n", "gives no name"),
        ("cluster,speaker,name\nx,speaker-1,Ann\n", "has no number in the column cluster"),
        ("cluster,speaker,name\n1,speaker-1,Ann\n1,speaker-1,Bob\n", "names cluster 1 again"),
        ("cluster,speaker,name\n9,speaker-9,Ann\n", "names cluster 9, which no row has"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(folder, capsys, text, told):
    speakers(capsys, folder.path)
    before = folder.rows()
    (folder.path / "wrong.csv").write_text(text, encoding="utf-8")
    assert told in refused(capsys, folder.path, "--names", folder.path / "wrong.csv")
    assert folder.rows() == before


def test_what_was_measured_is_used_again_and_an_edited_clip_measured_anew(folder, capsys):
    speakers(capsys, folder.path)
    kept = {file: file.stat().st_mtime_ns for file in (folder.path / ".work/speakers").iterdir()}
    samples, rate = soundfile.read(folder.path / "clips/00.wav", dtype="float32")
    soundfile.write(folder.path / "clips/00.wav", samples * np.float32(0.5), rate)
    speakers(capsys, folder.path)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert len(list((folder.path / ".work/speakers").iterdir())) > len(kept)


def test_clips_that_cannot_be_heard_are_told_and_stay(folder, capsys):
    rows = folder.rows()
    (folder.path / "clips/none.wav").write_bytes(b"RIFF")
    folder.write([*rows, ClipRow(audio="clips/none.wav", seconds=1.0, speaker="Ann")])
    report = speakers(capsys, folder.path)
    assert sum(report["not_heard"].values()) == 1
    assert folder.rows()[-1] == ClipRow(audio="clips/none.wav", seconds=1.0, speaker="Ann")


def test_so_many_speakers_as_are_said(folder, capsys):
    assert len(speakers(capsys, folder.path, "--speakers", 1)["clusters"]) == 1
    assert "a number from 1" in refused(capsys, folder.path, "--speakers", "two")


def test_what_is_not_installed_is_said_with_what_to_type(folder, capsys, monkeypatch):
    assert "wavlm:microsoft/wavlm-base-plus-sv" in refused(capsys, folder.path, "--embeddings", "x-vectors")
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    assert "pip install --no-deps resemblyzer" in refused(capsys, folder.path)
