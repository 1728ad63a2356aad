"""Applying a table and undoing it: every change is kept, every second accounted for, and a kill loses nothing."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace

import pytest

from tests.core.curation.review.folders import make_folder, refusal_of, report_of, state_of
from tests.core.disk.killing import killed_at
from tts_train.cli import main
from tts_train.curation.folder import REMOVED, TABLE, CorpusFolder
from tts_train.curation.review.changes import JOURNAL, PLACE, RowChange, Tables, read_journal, undo
from tts_train.curation.row import ClipRow


@pytest.fixture
def folder(tmp_path) -> CorpusFolder:
    return make_folder(tmp_path / "voice")


@pytest.fixture
def apply(folder, tmp_path, capsys):
    """Apply lines ``(clip's number, text or None, action, speaker)``."""

    def run(*lines: tuple, options: tuple[str, ...] = ()) -> dict:
        rows = {row.audio: row for row in (*folder.rows(), *folder.rows(REMOVED))}
        written = ["clip,text,action,speaker"]
        for number, text, action, *speaker in lines:
            row = rows[f"clips/{number:04d}.flac"]
            said = row.text if text is None else text
            written.append(f'{row.audio},"{said}",{action},{speaker[0] if speaker else row.speaker or ""}')
        table = tmp_path / "t.csv"
        table.write_text("\n".join(written), encoding="utf-8")
        return report_of(capsys, "corpus", "apply", folder.path, "--table", table, *options)

    return run


def seconds_of(folder: CorpusFolder) -> dict[str, float]:
    return json.loads((folder.path / "ledger.json").read_text())["seconds"]


def test_every_kind_of_change_is_made_and_reported(folder, apply):
    rows = folder.rows()
    told = apply((0, "Corrected.", ""), (1, None, "drop"), (2, None, "ok"), (3, None, "", "Bob"), (4, None, ""))
    assert told["change"] == 1
    assert told["changed"] == {"text": 1, "speaker": 1}
    assert (told["rows"], told["dropped"], told["marked_reviewed"], told["brought_back"]) == (5, 1, 1, 0)
    assert (told["unchanged"], told["not_in_table"], told["in_table"]) == (2, 1, 5)
    assert told["seconds"] == seconds_of(folder)
    whole = sum(row.seconds for row in rows)
    assert told["seconds"]["kept"] == pytest.approx(whole - rows[1].seconds, abs=0.002)
    assert told["seconds"]["removed"] == pytest.approx(rows[1].seconds, abs=0.002)
    assert told["seconds"]["silence"] == 7.5
    after = {row.audio: row for row in folder.rows()}
    assert (after[rows[0].audio].text, after[rows[0].audio].text_by) == ("Corrected.", "person")
    assert after[rows[2].audio].facts == {"reviewed": True}
    assert after[rows[3].audio].speaker == "Bob"
    assert after[rows[4].audio] == rows[4]
    assert folder.rows(REMOVED) == [rows[1]]
    assert (folder.path / rows[1].audio).is_file()
    assert told["next"][0] == f"tts-train check {folder.path} --deep"


def test_a_row_that_was_taken_out_is_brought_back_to_its_place(folder, apply):
    rows = folder.rows()
    apply((1, None, "drop"), (3, None, "drop"))
    told = apply((3, None, "keep"), (1, "Kept after all.", "keep"))
    assert (told["brought_back"], told["rows"], told["removed"]) == (2, 6, 0)
    assert "removed" not in told["seconds"]
    assert [row.audio for row in folder.rows()] == [row.audio for row in rows]
    assert folder.rows()[1].text == "Kept after all."
    assert apply((1, None, "keep"), (0, None, "ok"), (2, None, "ok"))["brought_back"] == 0


def test_ok_of_a_row_that_was_taken_out_is_refused(folder, apply, tmp_path, capsys):
    apply((1, None, "drop"))
    (tmp_path / "t.csv").write_text("clip,action\nclips/0001.flac,ok\n", encoding="utf-8")
    assert "Type keep to bring it back" in refusal_of(
        capsys, "corpus", "apply", folder.path, "--table", tmp_path / "t.csv"
    )


def test_a_dry_run_shows_the_changes_and_makes_none(folder, apply, capsys, tmp_path):
    before = state_of(folder)
    told = apply((0, "Corrected.", ""), (1, None, "drop"), options=("--dry_run",))
    assert told["dry_run"] is True
    assert (told["changed"], told["dropped"], told["rows"]) == ({"text": 1}, 1, 5)
    assert told["seconds"]["removed"] > 0
    assert state_of(folder) == before
    assert main(["corpus", "apply", str(folder.path), "--table", str(tmp_path / "t.csv"), "--dry_run"]) == 0
    printed = capsys.readouterr()
    assert "clips/0000.flac: text: 'Good morning, and welcome to the workshop.' -> 'Corrected.'" in printed.out
    assert "clips/0001.flac: table: 'corpus.jsonl' -> 'removed.jsonl'" in printed.out
    assert told["changes"][0] == {
        "clip": "clips/0000.flac",
        "field": "text",
        "before": "Good morning, and welcome to the workshop.",
        "after": "Corrected.",
    }


def test_a_speaker_whom_a_person_names_is_a_persons(folder, apply, capsys):
    rows = folder.rows()
    folder.write([replace(rows[0], speaker="speaker-1", facts={"speaker_by": "cluster"}), *rows[1:]])
    apply((0, None, "", "Bob"), (1, None, "", "Carl"))
    # Otherwise the next `corpus speakers` would give it the cluster's name again.
    assert [(row.speaker, row.facts) for row in folder.rows()[:2]] == [("Bob", {"speaker_by": "person"}), ("Carl", {})]
    report_of(capsys, "corpus", "apply", folder.path, "--undo", "last")
    assert (folder.rows()[0].speaker, folder.rows()[0].facts) == ("speaker-1", {"speaker_by": "cluster"})


def test_undo_brings_every_byte_back(folder, apply, capsys):
    states = [state_of(folder)]
    apply((0, "One.", ""), (1, None, "drop"), (2, None, "ok"), (4, None, "drop"))
    states.append(state_of(folder))
    apply((3, "Two.", "", "Bob"), (1, None, "keep"), (0, None, "", "Carl"))
    for state in reversed(states):
        told = report_of(capsys, "corpus", "apply", folder.path, "--undo", "last")
        for name in ("corpus.jsonl", "ledger.json"):
            assert state_of(folder)[name] == state[name]
        assert told["seconds"] == seconds_of(folder)
    assert [change.undoes for change in read_journal(folder) if change.undoes] == [2] * 6 + [1] * 6
    assert "no change to undo" in refusal_of(capsys, "corpus", "apply", folder.path, "--undo", "last")


def test_what_was_undone_can_be_done_again(folder, apply, capsys):
    apply((0, "One.", ""), (1, None, "drop"))
    done = state_of(folder)
    told = report_of(capsys, "corpus", "apply", folder.path, "--undo", "1")
    assert told["next"][-1] == f"tts-train corpus apply {folder.path} --undo 2"
    assert "undone already, by change 2" in refusal_of(capsys, "corpus", "apply", folder.path, "--undo", "1")
    report_of(capsys, "corpus", "apply", folder.path, "--undo", "2")
    assert {**state_of(folder), JOURNAL: b""} == {**done, JOURNAL: b""}
    report_of(capsys, "corpus", "apply", folder.path, "--undo", "1")
    assert len(folder.rows()) == 6


def test_undoing_what_a_later_change_touched_is_refused_and_says_which(folder, apply, capsys):
    apply((0, "One.", ""), (1, "Uno.", ""))
    apply((0, "Two.", ""))
    apply((2, "Other.", ""))
    before = state_of(folder)
    said = refusal_of(capsys, "corpus", "apply", folder.path, "--undo", "1")
    assert "clips/0000.flac: change 2 touched text, too" in said
    assert "clips/0001.flac" not in said
    assert state_of(folder) == before
    report_of(capsys, "corpus", "apply", folder.path, "--undo", "2")
    report_of(capsys, "corpus", "apply", folder.path, "--undo", "1")
    assert folder.rows()[1].text == "A quick brown otter slid down the muddy bank."
    assert folder.rows()[2].text == "Other."


def test_undoing_what_another_command_changed_since_is_refused(folder, apply, capsys):
    apply((0, "One.", ""))
    rows = folder.rows()
    folder.write(rows[1:])
    assert "is no clip of this folder any more" in refusal_of(capsys, "corpus", "apply", folder.path, "--undo", "1")
    assert "no such change" in refusal_of(capsys, "corpus", "apply", folder.path, "--undo", "7")
    assert "The changes are 1 to 1" in refusal_of(capsys, "corpus", "apply", folder.path, "--undo", "one")


def test_ten_thousand_rows_are_brought_back_by_steps_that_grow_with_them():
    rows = tuple(ClipRow(audio=f"clips/{number}.flac", seconds=1.0) for number in range(20_000))
    taken = [
        RowChange(change=1, time="", clip=row.audio, field=PLACE, before=TABLE, after=REMOVED, stood=place)
        for place, row in enumerate(rows[:10_000])
    ]
    after = Tables(rows, ()).with_changes(taken)
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(count)
    try:
        back = undo(taken, after, "last", time="")
    finally:
        sys.setprofile(None)
    assert after.with_changes(back).kept == rows
    assert steps < 100 * len(taken)


def test_a_table_or_a_change_to_undo_is_needed_and_not_both(folder, capsys):
    assert "--undo last" in refusal_of(capsys, "corpus", "apply", folder.path)
    assert "--undo last" in refusal_of(capsys, "corpus", "apply", folder.path, "--undo", "1", "--table", "t.csv")
    assert "is not there" in refusal_of(capsys, "corpus", "apply", folder.path, "--table", "none.csv")
    assert "is not a corpus folder" in refusal_of(capsys, "corpus", "apply", folder.path / "clips", "--undo", "1")


def test_a_kill_at_any_point_leaves_the_old_or_the_new_state(tmp_path, capsys):
    (tmp_path / "t.csv").write_text(
        "clip,text,action\nclips/0000.flac,One.,\nclips/0001.flac,Two.,drop\nclips/0002.flac,Three.,keep\n",
        encoding="utf-8",
    )
    seen = []
    for number in itertools.count():
        folder = make_folder(tmp_path / str(number), count=3)
        rows = folder.rows()
        folder.write(rows[:2], removed=rows[2:])
        words = ["corpus", "apply", str(folder.path), "--table", str(tmp_path / "t.csv")]
        killed = killed_at(number, lambda words=words: main(words))
        found = CorpusFolder.open(folder.path)
        changes = len(found.rows()) and [row.text for row in (*found.rows(), *found.rows(REMOVED))]
        assert changes in (["One.", "Three.", "Two."], [row.text for row in rows])
        seen.append(changes == [row.text for row in rows])
        # The journal says what the tables say, and the same command again ends well.
        with found.holding():
            assert bool(read_journal(found)) is not seen[-1]
        told = report_of(capsys, *words)
        assert told["rows"] == 2
        assert len(read_journal(found)) == 11
        assert sum(told["seconds"].values()) == pytest.approx(sum(row.seconds for row in rows) + 7.5, abs=0.01)
        if not killed:
            break
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {True, False}
