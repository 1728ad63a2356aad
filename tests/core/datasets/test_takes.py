"""Takes that a model said: which are better, and sets that cannot be read."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.core.datasets.takes import take, write_takes
from tts_train.datasets import TakeSet
from tts_train.datasets.takes import ABOUT, TAKES, is_takes
from tts_train.errors import DataError


def pairs(folder, rows, **asked):
    found, without = TakeSet(write_takes(folder, rows)).pairs(**{"margin": 0.5, **asked})
    return [(pair.text_id, pair.chosen, pair.rejected, pair.margin) for pair in found], dict(without)


def test_the_best_take_of_a_text_is_preferred_to_the_worst(tmp_path):
    rows = [take("a", 0, 0.1), take("a", 1, 2.0), take("a", 2, -1.0), take("b", 0, 1.0), take("b", 1, 0.0)]
    assert pairs(tmp_path, rows) == ([("a", 1, 2, 3.0), ("b", 3, 4, 1.0)], {})


def test_several_pairs_of_a_text_share_no_take(tmp_path):
    rows = [take("a", n, reward) for n, reward in enumerate([3.0, 1.0, 2.0, 0.0, 1.5])]
    found, _ = pairs(tmp_path, rows, per_text=4)
    # The one in the middle is left, as 1.5 is better than none that is left.
    assert found == [("a", 0, 3, 3.0), ("a", 2, 1, 1.0)]


@pytest.mark.parametrize("fault", [{"ended": False}, {"missed": ["words_found"]}, {"error": "No frame."}])
def test_a_take_with_a_fault_is_never_the_better_one(tmp_path, fault):
    rows = [take("a", 0, 2.0, **fault), take("a", 1, 1.0), take("a", 2, 0.0, **fault)]
    assert pairs(tmp_path, rows)[0] == [("a", 1, 2, 1.0)]


def test_texts_without_a_pair_are_counted_by_reason(tmp_path):
    rows = [
        *(take("alone", n, reward) for n, reward in enumerate([1.0, None])),
        *(take("runaway", n, float(n), ended=False) for n in range(2)),
        *(take("alike", n, 0.1 * n) for n in range(2)),
        *(take("equal", n, 1.0) for n in range(2)),
    ]
    assert pairs(tmp_path, rows) == (
        [],
        {
            "fewer than two takes could be judged": 1,
            "no take ended by itself and reached every floor": 1,
            "the best take is not better than the worst by the margin": 2,
        },
    )
    assert pairs(tmp_path, rows, margin=0.0)[0] == [("alike", 5, 4, pytest.approx(0.1))]


def test_what_is_no_finished_set_is_refused_with_the_command(tmp_path):
    assert not is_takes(tmp_path)
    with pytest.raises(DataError, match=r"no finished takes .* tts-train sample RUN"):
        TakeSet(tmp_path)
    folder = write_takes(tmp_path / "takes", [take("a", 0, 1.0)])
    assert is_takes(folder)
    with pytest.raises(DataError, match="holds takes of backend 'orpheus', and those of 'csm' are needed"):
        TakeSet(folder, backend="csm")
    about = json.loads((folder / ABOUT).read_text())
    for change, told in (
        ({"takes": 2}, "1 takes instead of 2"),
        ({"version": 9}, "Update tts-train"),
        ({"format": "other"}, "does not describe takes"),
    ):
        (folder / ABOUT).write_text(json.dumps({**about, **change}))
        with pytest.raises(DataError, match=told):
            TakeSet(folder)
    del about["hash"]
    (folder / ABOUT).write_text(json.dumps(about))
    with pytest.raises(DataError, match="lacks hash"):
        TakeSet(folder)
    (folder / ABOUT).write_text("{")
    with pytest.raises(DataError, match=ABOUT):
        TakeSet(folder)
    assert TAKES == "takes.parquet"


def test_texts_whose_good_takes_all_have_a_fault_are_counted_as_such(tmp_path):
    rows = [take("a", 0, 1.0, error="2 ids are no audio"), take("a", 1, 0.0)]
    assert pairs(tmp_path, [{**row, "error": "2 ids are no audio"} for row in rows]) == (
        [],
        {"every take that ended by itself and reached the floors has a fault (column error)": 1},
    )


def test_columns_that_are_not_what_they_should_be_are_refused(tmp_path):
    folder = write_takes(tmp_path / "takes", [take("a", n, float(n)) for n in range(3)])
    table = pq.read_table(folder / TAKES)
    for name, values, told in (
        ("reward", ["x", "y", "z"], "its column reward is string and not double"),
        ("reward", [0.0, float("nan"), 1.0], "a reward that is no number"),
        ("text_id", pa.nulls(3, pa.string()), "has no text_id"),
        ("missed", ["a", "b", "c"], "its column missed is string"),
    ):
        place = table.schema.get_field_index(name)
        pq.write_table(table.set_column(place, name, pa.array(values)), folder / TAKES)
        with pytest.raises(DataError, match=f"{told}.*tts-train sample RUN"):
            TakeSet(folder)
    (folder / TAKES).write_bytes(b"")
    with pytest.raises(DataError, match="tts-train sample RUN"):
        TakeSet(folder)
