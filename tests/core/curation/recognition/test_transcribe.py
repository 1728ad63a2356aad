"""``corpus transcribe`` with a third party's recogniser: what it writes, leaves and refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from tests.core.curation.recognition.folders import by_name, clip, install_meter, make_folder, transcribe
from tts_train.cli import main


@pytest.fixture
def site(tmp_path, monkeypatch):
    found = install_meter(tmp_path)
    monkeypatch.syspath_prepend(found)
    yield found
    sys.modules.pop("meter_of_clips", None)


@pytest.fixture
def folder(tmp_path, site):
    return make_folder(
        tmp_path / "corpus",
        clip("new", 1.0),
        clip("long", 2.5, speaker="ann", facts={"loud": 3}),
        clip("named", 1.5, language="fr-CA"),
        clip("foreign", 1.0, language="it"),
        clip("short", 0.3),
        clip("mine", 1.0, text="My words.", text_by="person", confidence=0.1),
        clip("given", 1.0, text="It came so.", text_by="corpus"),
        clip("under", 1.0, text="A subtitle.", text_by="subtitles"),
        clip("old", 1.0, text="Herd before.", text_by="recogniser sphinx", facts={"agreement": 0.5}),
    )


def test_rows_without_a_text_get_one_and_no_other_changes(folder, capsys):
    before = by_name(folder)
    told = transcribe(folder, capsys, "--recogniser", "meter")
    rows = by_name(folder)
    for name in ("mine", "given", "under", "old"):
        assert rows[name] == before[name]
    assert (rows["new"].text, rows["new"].text_by, rows["new"].confidence) == (
        "about 1.0 seconds",
        "recogniser meter",
        0.81,
    )
    assert rows["long"].speaker == "ann"
    assert rows["long"].facts == {"loud": 3, "language_heard": "fr", "language_confidence": 0.75}
    assert (rows["short"].text, rows["short"].text_by, rows["short"].facts) == ("", None, {"nothing_heard": "meter"})
    assert told["transcribed"] == 3
    assert told["kept"] == {"person": 1, "corpus": 1, "subtitles": 1, "recogniser sphinx": 1}
    assert told["rows"] == told["transcribed"] + sum(told["kept"].values()) + told["nothing_heard"] + 1
    assert told["confidence"]["0.8 to 1"] == 3
    assert told["seconds"] == {"kept": round(sum(row.seconds for row in rows.values()), 3)}
    assert told["next"] == [f"tts-train corpus review {folder.path}", f"tts-train check {folder.path}"]


def test_the_language_that_is_heard_goes_where_none_stands(folder, capsys):
    told = transcribe(folder, capsys, "--recogniser", "meter")
    rows = by_name(folder)
    assert {name: rows[name].language for name in ("new", "long", "named", "foreign", "short")} == {
        "new": "en", "long": "fr", "named": "fr-CA", "foreign": "it", "short": None,
    }  # fmt: skip
    assert rows["foreign"].text == ""
    assert rows["foreign"].facts == {"not_heard": "meter knows en, fr only, not it"}
    assert told["not_heard"] == {"meter knows en, fr only, not it": 1}
    assert told["languages"] == {"en": 1, "fr": 1, "fr-CA": 1}


def test_a_language_that_is_given_is_that_of_rows_that_name_none(folder, capsys):
    transcribe(folder, capsys, "--recogniser", "meter", "--language", "fra")
    rows = by_name(folder)
    assert [rows[name].language for name in ("new", "long", "named")] == ["fr", "fr", "fr-CA"]
    assert "language_confidence" not in rows["new"].facts


def test_a_language_that_was_heard_is_heard_anew_and_a_corrected_one_stays(folder, capsys):
    transcribe(folder, capsys, "--recogniser", "sphinx", "--language", "en")
    transcribe(folder, capsys, "--recogniser", "meter", "--again", "recogniser")
    rows = folder.rows()
    folder.write([replace(row, language="fr") if row.audio == "clips/new.wav" else row for row in rows])
    transcribe(folder, capsys, "--recogniser", "meter", "--model", "now", "--again", "recogniser")
    found = by_name(folder)
    assert (found["new"].text, found["new"].language) == ("now 1.0 seconds", "fr")
    assert (found["long"].language, found["long"].facts["language_heard"]) == ("fr", "fr")


def test_again_hears_only_what_a_recogniser_wrote_and_keeps_the_earlier_text(folder, capsys):
    before = by_name(folder)
    told = transcribe(folder, capsys, "--recogniser", "meter", "--again", "recogniser")
    rows = by_name(folder)
    assert rows["old"].text == "about 1.0 seconds"
    assert rows["old"].text_by == "recogniser meter"
    assert rows["old"].facts == {"earlier_text": "Herd before.", "language_heard": "en", "language_confidence": 0.75}
    assert [rows[name] for name in ("mine", "given", "under")] == [before[name] for name in ("mine", "given", "under")]
    assert sum(told["kept"].values()) == 3


def test_a_second_recogniser_says_how_sure_a_text_is(folder, capsys):
    told = transcribe(folder, capsys, "--recogniser", "meter", "--model", "about", "--second", "meter:abort")
    row = by_name(folder)["new"]
    assert row.facts["hypotheses"] == [{"by": "meter", "text": text} for text in (row.text, "abort 1.0 seconds")]
    # jiwer: one of the 17 characters is another.
    assert row.facts["agreement"] == pytest.approx(1 - 1 / 17, abs=1e-4)
    assert row.confidence == pytest.approx(1 - 0.19 / 17, abs=1e-4)
    assert told["mean_confidence"] == pytest.approx(row.confidence, abs=0.02)
    # Where the first hears nothing, what the second hears is for a person to see, and is no text.
    assert [each["text"] for each in by_name(folder)["short"].facts["hypotheses"]] == ["", ""]


def test_a_killed_command_continues_with_what_it_heard(tmp_path, site, capsys, monkeypatch):
    rows = [clip(f"c{number:02d}", 0.5 + number / 100) for number in range(40)]
    folder = make_folder(tmp_path / "corpus", *rows)
    log = tmp_path / "heard.log"
    killed = subprocess.run(
        [sys.executable, "-m", "tts_train", "corpus", "transcribe", str(folder.path), "--recogniser", "meter"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
             "METER_LOG": str(log), "METER_DIES_AT": "36"},
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert killed.returncode != 0
    assert folder.rows() == rows
    monkeypatch.setenv("METER_LOG", str(log))
    assert transcribe(folder, capsys, "--recogniser", "meter")["transcribed"] == 40
    heard = log.read_text().split()
    # Only the chunk in which it died is heard twice: between 8 and 32 clips.
    assert 0 < len(heard) - 40 < 36
    assert set(heard) == {f"{row.seconds:.2f}" for row in rows}
    # The same once more has nothing to do; other clips are heard alone.
    assert transcribe(folder, capsys, "--recogniser", "meter", "--again", "recogniser")["transcribed"] == 40
    assert len(log.read_text().split()) == len(heard)


def test_processes_hear_the_same(folder, capsys):
    transcribe(folder, capsys, "--recogniser", "meter", "--workers", "1")
    assert by_name(folder)["long"].text == "about 2.5 seconds"


def test_a_clip_that_cannot_be_read_keeps_its_row(folder, capsys):
    (folder.path / "clips/new.wav").write_bytes(b"")
    (folder.path / "clips/long.wav").unlink()
    # Quiet, but not silent: a recording of five minutes and more, which slice has not seen.
    soundfile.write(folder.path / "clips/named.wav", np.full(301 * 8000, 0.01), 8000)
    told = transcribe(folder, capsys, "--recogniser", "meter")
    lacks = "meter knows en, fr only, not it"
    assert told["not_heard"] == {"missing": 1, "not_audio": 1, "too_long": 1, lacks: 1}
    row = by_name(folder)["new"]
    assert row.text == ""
    assert row.facts["not_heard"].startswith("not_audio: ")
    assert told["rows"] == 9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--recogniser", "metre"), "There are: whisper, sphinx, meter"),
        (("--recogniser", "meter", "--language", "it"), "meter knows en, fr only, not it"),
        (("--recogniser", "meter", "--language", "klingon"), "klingon is no language code"),
        (("--recogniser", "meter", "--model", "a", "--second", "meter:a"), "would always agree"),
        (("--recogniser", "meter", "--second", "nobody"), "--second nobody: there is no such recogniser"),
        (("--recogniser", "sphinx", "--model", "en"), "sphinx brings its own model"),
        (("--recogniser", "sphinx", "--language", "fr"), "sphinx knows en only, not fr"),
        (("--recogniser", "meter", "--again", "all"), "--again"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(folder, words, said, capsys):
    before = sorted(path.name for path in folder.path.rglob("*"))
    assert main(["corpus", "transcribe", str(folder.path), *words]) == 2
    told = capsys.readouterr().err.strip()
    assert said in told
    assert sorted(path.name for path in folder.path.rglob("*")) == before


def test_whisper_that_is_not_installed_says_what_to_install_and_what_works_offline(folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    for name in ("auto", "whisper"):
        assert main(["corpus", "transcribe", str(folder.path), "--recogniser", name]) == 2
        told = capsys.readouterr().err.strip()
        assert f"--recogniser {name}: faster_whisper is not installed: pip install 'tts-train[asr]'." in told
        assert "for English only, there is --recogniser sphinx;" in told
        assert "\n" not in told


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_recogniser_that_fails_is_named_with_the_clip(tmp_path, site, capsys, workers):
    folder = make_folder(tmp_path / "corpus", clip("fine", 1.0), clip("hour", 61.0))
    assert main(["corpus", "transcribe", str(folder.path), "--recogniser", "meter", "--workers", workers]) == 70
    told = capsys.readouterr().err
    assert "Recogniser meter failed at one of clips/fine.wav, clips/hour.wav: MemoryError: too long for me." in told
    assert "What is finished is kept" in told
    assert "Traceback" not in told


def test_check_says_how_rows_without_a_text_get_one(folder, capsys):
    transcribe(folder, capsys, "--recogniser", "meter", "--language", "en")
    for path in (folder.path, folder.path / "corpus.jsonl"):
        assert main(["check", str(path)]) == 2
        told = capsys.readouterr().err
        assert f"empty_text: 2. Write texts with: tts-train corpus transcribe {folder.path}. First: " in told


def test_what_is_no_corpus_folder_is_refused(tmp_path, capsys):
    assert main(["corpus", "transcribe", str(tmp_path), "--recogniser", "sphinx"]) == 2
    assert "is not a corpus folder" in capsys.readouterr().err
