"""Tables of a corpus folder that somebody edited by hand, or that came from elsewhere."""

from __future__ import annotations

import json

import pytest

from tests.core.curation.review.folders import make_folder, refusal_of, report_of
from tts_train.curation.folder import require_new
from tts_train.errors import ConfigError

WRONG = {
    "seconds": [float("nan"), float("inf"), -5, True, "2.0"],
    "confidence": ["high", float("nan"), [0.5]],
    "speaker": [5, ["Anna"]],
    "language": [5, {"a": 1}],
    "text_by": [3],
    "split": [3, "dev"],
    "cut": [[1], {"recording": 7, "start": 1, "end": 2}, {"recording": "x", "start": "a", "end": None}],
    "facts": [[1], "x"],
    "audio": ["a\0b", 5],
}


def edited(folder, **values):
    rows = [row.as_dict() for row in folder.rows()]
    rows[1] |= values
    (folder.path / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.parametrize("name", WRONG)
def test_a_value_of_another_kind_is_refused_with_its_line(tmp_path, capsys, name):
    folder = make_folder(tmp_path / "corpus", count=3)
    whole = (folder.path / "corpus.jsonl").read_bytes()
    for value in WRONG[name]:
        (folder.path / "corpus.jsonl").write_bytes(whole)
        edited(folder, **{name: value})
        said = refusal_of(capsys, "corpus", "review", folder.path)
        assert "corpus.jsonl:2" in said
        assert name in said


def test_names_that_were_emptied_are_none(tmp_path, capsys):
    folder = make_folder(tmp_path / "corpus", count=3)
    edited(folder, speaker="", language="", note="of a person")
    row = folder.rows()[1]
    assert (row.speaker, row.language, row.facts["note"]) == (None, None, "of a person")


def test_facts_of_another_kind_do_not_stop_the_review(tmp_path, capsys):
    folder = make_folder(tmp_path / "corpus", count=3)
    odd = {"findings": 5, "hypotheses": 3, "speaker_likeness": "no", "language_heard": [], "not_heard": 3}
    edited(folder, facts={**odd, "nothing_heard": {}, "speaker_like_other": 2, "speaker_cluster": "x", "reviewed": 1})
    assert report_of(capsys, "corpus", "review", folder.path)["rows"] == 3


LEDGERS = {
    "no_version": {"format": "tts-train corpus"},
    "version": {"format": "tts-train corpus", "version": "new"},
    "recording": {"format": "tts-train corpus", "version": 1, "recordings": [{"x": 1}]},
    "fates": {
        "format": "tts-train corpus",
        "version": 1,
        "recordings": [{"recording": "x", "fates": {"silence": "a"}}],
    },
    "not_a_list": {"format": "tts-train corpus", "version": 1, "recordings": {"a": 1}},
}


@pytest.mark.parametrize("name", LEDGERS)
def test_a_ledger_of_another_kind_is_refused_by_name(tmp_path, capsys, name):
    folder = make_folder(tmp_path / "corpus", count=3)
    (folder.path / "ledger.json").write_text(json.dumps(LEDGERS[name]))
    assert "ledger.json" in refusal_of(capsys, "corpus", "review", folder.path)


@pytest.mark.parametrize("names", [{"new": [], "gone": ["../mine.txt"]}, {"new": ["../mine.txt"], "gone": []}, [], "{"])
def test_a_foreign_folder_replaces_no_file_outside_of_it(tmp_path, capsys, names):
    folder = make_folder(tmp_path / "corpus", count=3)
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    # Where '.new-../mine.txt' leads to.
    (folder.path / ".new-..").mkdir()
    (folder.path / ".new-.." / "mine.txt").write_text("not mine")
    pending = folder.path / ".pending.json"
    pending.write_text(names if isinstance(names, str) else json.dumps(names))
    assert ".pending.json" in refusal_of(capsys, "corpus", "split", folder.path, "--validation", "0.3", "--by", "none")
    assert mine.read_text() == "mine"


def test_half_a_letter_in_a_text_is_no_reason_to_stop_an_export(tmp_path, capsys):
    folder = make_folder(tmp_path / "corpus", ["A good text.", "Cut \ud83d short.", "Another good text."])
    for form in ("jsonl", "ljspeech", "pairs"):
        told = report_of(capsys, "corpus", "export", folder.path, "--format", form, "--out", tmp_path / form)
        assert (told["rows"], told["verified"]) == (2, True)
        assert sum(told["refused"].values()) == 1


def test_a_folder_of_which_a_killed_command_left_the_lock_alone_is_taken(tmp_path):
    (tmp_path / ".corpus.lock").write_text("{}")
    require_new(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        require_new(tmp_path)


def test_a_text_longer_than_a_cell_of_csv_comes_back_from_the_review(tmp_path, capsys):
    folder = make_folder(tmp_path / "corpus", ["x" * 150_000, "A short one."])
    report_of(capsys, "corpus", "review", folder.path)
    table = folder.path / "review" / "review.csv"
    assert report_of(capsys, "corpus", "apply", folder.path, "--table", table)["unchanged"] == 2
