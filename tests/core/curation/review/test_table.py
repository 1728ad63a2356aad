"""The table: texts that spreadsheets would change, and whatever Excel and LibreOffice make of the file."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from tests.core.curation.review.folders import HARD, make_folder, refusal_of, report_of, state_of
from tts_train.curation.review.table import COLUMNS, as_cell, guard, unguard


def table_of(folder) -> list[dict[str, str]]:
    text = (folder.path / "review" / "review.csv").read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def save(path, lines, *, encoding="utf-8-sig", separator=",", quoting=csv.QUOTE_MINIMAL, end="\r\n") -> None:
    """Save a table as a spreadsheet does."""
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=separator, quoting=quoting, lineterminator=end)
        writer.writeheader()
        writer.writerows(lines)


@pytest.mark.parametrize(
    "text", [*HARD, "''=x", "'", "", "'007", "5. März", "MAI 2020", "3 дек", "10:30", "+49 30 1234", "\ttab"]
)
def test_a_guarded_cell_is_read_as_it_was(text):
    cell = as_cell(text)
    assert unguard(guard(cell)) == cell
    assert not guard(cell).startswith(("=", "+", "-", "@", "\t", "\r", "＝"))


@pytest.mark.parametrize(
    "text", ["Good morning.", "Chapter twelve", "A 5-year plan", "speaker-1", "Part 2", "It is 10:30 now", "May"]
)
def test_ordinary_texts_stand_as_they_are(text):
    assert guard(text) == text


def test_a_table_that_nobody_edited_changes_nothing(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice", [*HARD], language=None)
    before = state_of(folder)
    told = report_of(capsys, "corpus", "review", folder.path)
    assert told["rows"] == told["shown"] == len(HARD)
    told = report_of(capsys, "corpus", "apply", folder.path, "--table", told["table"])
    assert told["unchanged"] == len(HARD)
    assert told["changed"] == {}
    assert told["not_in_table"] == 0
    assert state_of(folder) == before


SAVED = {
    "Excel, CSV UTF-8": {},
    "Excel, where the comma is of numbers": {"separator": ";"},
    "Excel, Unicode text": {"encoding": "utf-16", "separator": "\t"},
    "LibreOffice": {"encoding": "utf-8", "quoting": csv.QUOTE_ALL, "end": "\n"},
    "LibreOffice, UTF-16 without a mark": {"encoding": "utf-16-le", "separator": "\t", "end": "\n"},
    "Excel of old Macs": {"encoding": "utf-8", "separator": ";", "quoting": csv.QUOTE_ALL, "end": "\r"},
}


@pytest.mark.parametrize("how", SAVED)
def test_what_spreadsheets_save_is_read(tmp_path, capsys, how):
    folder = make_folder(tmp_path / "voice", [*HARD], language=None)
    told = report_of(capsys, "corpus", "review", folder.path)
    lines = table_of(folder)
    lines[2]["text"] = 'Edited; with "all", and\tmore: Привет, שלום'
    lines[3]["speaker"] = "Bob"
    table = tmp_path / "saved.csv"
    save(table, lines, **SAVED[how])
    told = report_of(capsys, "corpus", "apply", folder.path, "--table", table)
    assert told["changed"] == {"text": 1, "speaker": 1}
    by_clip = {row.audio: row for row in folder.rows()}
    assert by_clip[lines[2]["clip"]].text == 'Edited; with "all", and\tmore: Привет, שלום'
    assert by_clip[lines[2]["clip"]].text_by == "person"
    assert by_clip[lines[2]["clip"]].confidence is None
    assert by_clip[lines[3]["clip"]].speaker == "Bob"
    for place, text in enumerate(HARD):
        row = by_clip[f"clips/{place:04d}.flac"]
        assert row.audio == lines[2]["clip"] or row.text == text


def test_a_guarded_text_that_is_edited_loses_its_apostrophe(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice", ["May 5", "=1+1", "'Twas brillig"])
    report_of(capsys, "corpus", "review", folder.path)
    lines = table_of(folder)
    for line in lines:
        # Typed behind what stands there.
        line["text"] = line["text"].replace("May 5", "May the fifth").replace("=1+1", "two") + "!"
    save(tmp_path / "t.csv", lines)
    report_of(capsys, "corpus", "apply", folder.path, "--table", tmp_path / "t.csv")
    assert [row.text for row in folder.rows()] == ["May the fifth!", "two!", "'Twas brillig!"]


def test_a_first_line_that_names_the_separator_is_read(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice")
    table = tmp_path / "t.csv"
    table.write_text("sep=|\nclip|text\nclips/0001.flac|One, two; three\n", encoding="utf-8")
    told = report_of(capsys, "corpus", "apply", folder.path, "--table", table)
    assert told["changed"] == {"text": 1}
    assert told["not_in_table"] == 5
    assert folder.rows()[1].text == "One, two; three"
    assert folder.rows()[1].speaker == "Anna"


def test_another_encoding_is_refused_until_it_is_named(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice")
    table = tmp_path / "t.csv"
    table.write_bytes("clip;text\r\nclips/0000.flac;Größere Straße, schöne Grüße an alle\r\n".encode("cp1252"))
    before = state_of(folder)
    said = refusal_of(capsys, "corpus", "apply", folder.path, "--table", table)
    assert "is not UTF-8" in said
    assert "--encoding" in said
    assert state_of(folder) == before
    report_of(capsys, "corpus", "apply", folder.path, "--table", table, "--encoding", "cp1252")
    assert folder.rows()[0].text == "Größere Straße, schöne Grüße an alle"
    assert "not known" in refusal_of(capsys, "corpus", "apply", folder.path, "--table", table, "--encoding", "cp12x")


REFUSED = {
    "unknown clip": ("clip,text\nclips/0000.flac,One\nclips/none.flac,Two\n", "line 3: clips/none.flac is no clip"),
    "another folder": ("clip,text\nother/1.flac,One\nother/2.flac,Two\n", "belongs to another folder"),
    "unknown action": ("clip,action\nclips/0000.flac,delete\n", "line 2: clips/0000.flac: the action 'delete'"),
    "twice": (
        "clip,text\nclips/0000.flac,One\n\nclips/0000.flac,Two\n",
        "line 4: clips/0000.flac stands in line 2 already",
    ),
    "cut off": ("clip,text,mark\nclips/0000.flac,On", "line 2: ends before the column mark"),
    "open quote": ('clip,text\nclips/0000.flac,"One\nclips/0001.flac,Two\n', "line 2: unexpected end of data"),
    "separator in a text": ("clip,text\nclips/0000.flac,One, two\n", "line 2: has 3 cells, the first line 2"),
    "no clip": ("clip,text\n,One\n", "line 2: names no clip"),
    "no columns": ("file;words\nclips/0000.flac;One\n", "has no column named clip"),
    "column twice": ("clip,text,text\nclips/0000.flac,One,Two\n", "two columns named text"),
    "language": ("clip,language\nclips/0000.flac,the queen's\n", "line 2: clips/0000.flac: the language"),
    "page": ("<!doctype html>\n<html>", "Press 'Save table'"),
    "workbook": ("PK\x03\x04....", "is a workbook"),
    "question marks": ("clip,text\nclips/0006.flac,????: Gr??e\n", "letters became question marks"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_applied_is_refused_by_line(tmp_path, capsys, what):
    folder = make_folder(tmp_path / "voice", ["a", "b", "c", "d", "e", "f", "Курс: Größe"])
    text, said = REFUSED[what]
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    before = state_of(folder)
    assert said in refusal_of(capsys, "corpus", "apply", folder.path, "--table", tmp_path / "t.csv")
    assert state_of(folder) == before


def test_every_line_is_told_but_not_without_end(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice")
    lines = "".join(f"clips/{number}.flac,One\n" for number in range(50))
    (tmp_path / "t.csv").write_text(f"clip,text\nclips/0000.flac,One\n{lines}", encoding="utf-8")
    said = refusal_of(capsys, "corpus", "apply", folder.path, "--table", tmp_path / "t.csv")
    assert said.count("is no clip of this folder") == 20
    assert "and 30 more lines" in said


def test_a_line_of_a_row_that_changed_since_is_told_apart(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice")
    report_of(capsys, "corpus", "review", folder.path)
    lines = table_of(folder)
    rows = folder.rows()
    # By another command, or another person's table.
    folder.write([replace(rows[0], text="Changed."), replace(rows[1], text="Changed, too."), *rows[2:]])
    save(tmp_path / "t.csv", lines)
    told = report_of(capsys, "corpus", "apply", folder.path, "--table", tmp_path / "t.csv")
    assert told["changed"] == {}
    assert folder.rows()[0].text == "Changed."
    for line in lines:
        line["text"] += " Edited." if line["clip"] == rows[1].audio else ""
    save(tmp_path / "t.csv", lines)
    said = refusal_of(capsys, "corpus", "apply", folder.path, "--table", tmp_path / "t.csv")
    assert "text changed since the table was written" in said


def test_a_table_of_another_folder_with_the_same_names_is_refused(tmp_path, capsys):
    one, other = make_folder(tmp_path / "one"), make_folder(tmp_path / "other", count=3)
    rows = other.rows()
    other.write([replace(row, text="Another text.", seconds=row.seconds + 1) for row in rows])
    told = report_of(capsys, "corpus", "review", other.path)
    said = refusal_of(capsys, "corpus", "apply", one.path, "--table", told["table"])
    assert said.count("the table belongs to another folder") == 3


def test_the_columns_are_those_that_are_documented(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice")
    report_of(capsys, "corpus", "review", folder.path)
    assert tuple(table_of(folder)[0]) == COLUMNS
    assert (folder.path / "review" / "review.csv").read_bytes().startswith(b"\xef\xbb\xbfclip,text,")


def test_a_table_that_a_person_edited_is_not_written_over(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice")
    table = folder.path / "review" / "review.csv"
    report_of(capsys, "corpus", "review", folder.path)
    rows = folder.rows()
    # As it was written it has nothing to lose, also when rows have changed since.
    folder.write([replace(rows[0], text="Changed."), *rows[1:]])
    report_of(capsys, "corpus", "review", folder.path)
    lines = table_of(folder)
    lines[0]["action"] = "drop"
    save(table, lines, separator=";")
    edited = table.read_bytes()
    said = refusal_of(capsys, "corpus", "review", folder.path)
    assert "holds 1 change not applied yet" in said
    assert f"tts-train corpus apply {folder.path} --table {table}" in said
    assert table.read_bytes() == edited
    table.write_bytes(edited + b'"')
    assert "holds changes not applied yet" in refusal_of(capsys, "corpus", "review", folder.path)
    report_of(capsys, "corpus", "review", folder.path, "--out", tmp_path / "elsewhere")
    table.write_bytes(edited)
    report_of(capsys, "corpus", "apply", folder.path, "--table", table)
    assert report_of(capsys, "corpus", "review", folder.path)["removed"] == 1


def test_what_cannot_be_reviewed_is_refused(tmp_path, capsys):
    folder = make_folder(tmp_path / "voice", count=1)
    assert "shows no clip" in refusal_of(capsys, "corpus", "review", folder.path, "--limit", "0")
    assert "is a file" in refusal_of(capsys, "corpus", "review", folder.path, "--out", folder.path / "ledger.json")
    folder.write([])
    assert "has no rows" in refusal_of(capsys, "corpus", "review", folder.path)
