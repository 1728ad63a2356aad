"""Files that are replaced together: a kill at any point leaves all old or all new, and the next writer finishes."""

from __future__ import annotations

import itertools
import json

from tests.core.disk.killing import killed_at
from tts_train.curation.folder import LEDGER, REMOVED, TABLE, CorpusFolder
from tts_train.curation.row import ClipRow
from tts_train.disk.together import counting_file, finish_replacing, replace_together

OLD = {"one": "1", "two": "2", "gone": "3"}
NEW = {"one": "10", "two": "20", "gone": None, "more": "40"}


def contents(folder) -> dict[str, str | None]:
    return {
        name: counting_file(folder, name).read_text() if counting_file(folder, name).exists() else None for name in NEW
    }


def test_a_kill_at_any_point_leaves_all_old_or_all_new(tmp_path):
    told = []
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        replace_together(folder, OLD)
        if not killed_at(number, lambda folder=folder: replace_together(folder, NEW)):
            break
        finish_replacing(folder)
        found = contents(folder)
        assert found in ({**OLD, "more": None}, NEW), number
        told.append(found == NEW)
        replace_together(folder, NEW)
        assert contents(folder) == NEW
        assert not [each.name for each in folder.iterdir() if each.name.startswith((".new", ".pending"))]
    # Old until one moment, new from it on; both were met.
    assert told == sorted(told)
    assert set(told) == {False, True}


def test_a_row_that_moves_between_the_tables_is_never_lost(tmp_path):
    rows = [ClipRow(audio=f"clips/{number}.flac", seconds=1.0) for number in range(3)]
    states = set()
    for number in itertools.count():
        folder = CorpusFolder(tmp_path / str(number))
        folder.write(rows)
        done = not killed_at(number, lambda folder=folder: folder.write(rows[1:], removed=rows[:1]))
        # As another command reads it, before anything is put in order.
        found = CorpusFolder.open(folder.path)
        kept, gone = (sorted(row.audio for row in found.rows(name)) for name in (TABLE, REMOVED))
        seconds = json.loads(counting_file(folder.path, LEDGER).read_text())["seconds"]
        if done:
            break
        assert sorted(kept + gone) == [row.audio for row in rows]
        with found.holding():
            assert sum(json.loads((folder.path / LEDGER).read_text())["seconds"].values()) == 3.0
            assert found.rows() == [row for row in rows if row.audio in kept]
        states.add(len(kept))
    assert states == {2, 3}
    assert seconds == {"kept": 2.0, "removed": 1.0}


def test_half_of_a_pair_of_surrogates_is_kept(tmp_path):
    row = ClipRow(audio="clips/a.flac", seconds=1.0, text="cut \ud83d and é")
    CorpusFolder(tmp_path).write([row])
    assert CorpusFolder.open(tmp_path).rows() == [row]
