"""The metrics file survives kills and continuation."""

from __future__ import annotations

import math

from tts_train.report.history import Entry, History, series


def test_what_was_appended_is_read_back(tmp_path):
    history = History(tmp_path)
    assert history.entries() == []
    history.append({"train/loss": 2.5, "lr": 1e-4}, step=10, epoch=0)
    history.append({"train/loss": float("nan")}, step=20, epoch=1)
    first, second, third = history.entries()
    assert (first, second) == (Entry(10, 0, "train/loss", 2.5), Entry(10, 0, "lr", 1e-4))
    assert math.isnan(third.value)
    assert "NaN" not in history.path.read_text()


def test_a_torn_last_line_is_ignored_and_then_removed(tmp_path):
    history = History(tmp_path)
    history.append({"loss": 1.0}, step=1, epoch=0)
    history.append({"loss": 2.0}, step=2, epoch=0)
    whole = history.path.read_bytes()
    for cut in range(1, len(whole) // 2):
        history.path.write_bytes(whole[:-cut])
        assert [entry.value for entry in history.entries()] == [1.0]
    history.keep_until(2)
    history.append({"loss": 3.0}, step=3, epoch=0)
    assert [entry.value for entry in history.entries()] == [1.0, 3.0]


def test_keep_until_drops_later_steps_and_leaves_no_draft(tmp_path):
    history = History(tmp_path)
    assert history.keep_until(5) == 0
    for step in range(1, 11):
        history.append({"loss": float(step)}, step=step, epoch=0)
    assert history.keep_until(7) == 3
    assert [entry.step for entry in history.entries()] == list(range(1, 8))
    assert [path.name for path in history.path.parent.iterdir()] == ["metrics.jsonl"]


def test_series_are_sorted_and_the_later_value_of_a_step_counts():
    entries = [Entry(2, 0, "a", 1.0), Entry(1, 0, "a", 5.0), Entry(2, 0, "a", 3.0), Entry(1, 0, "b", 0.0)]
    assert series(entries) == {"a": [Entry(1, 0, "a", 5.0), Entry(2, 0, "a", 3.0)], "b": [Entry(1, 0, "b", 0.0)]}
