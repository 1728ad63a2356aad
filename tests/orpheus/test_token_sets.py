"""Sets that were tokenised elsewhere: masks, padding, labels and column types mean the same in fit and in prepare."""

from __future__ import annotations

import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.orpheus.test_data import open_data, utterance
from tests.orpheus.test_prepare import prepare
from tts_train.cli import main
from tts_train.errors import DataError
from tts_train.families.token_lm.data.text_mix import TextMix
from tts_train_orpheus import layout

ROWS = [utterance(number, 3 + number).input_ids.tolist() for number in range(5)]
STARTS = [row.index(layout.START_OF_SPEECH) + 1 for row in ROWS]
LONGEST = max(map(len, ROWS)) + 4
SPOKEN = [[-100] * start + row[start:] for row, start in zip(ROWS, STARTS, strict=True)]


def padded(rows, fill, *, left):
    spare = [[fill] * (LONGEST - len(row)) for row in rows]
    return [more + row if left else row + more for row, more in zip(rows, spare, strict=True)]


def lists(rows, kind=None):
    return pa.array(rows, pa.list_(kind or pa.int64()))


def write(folder, columns):
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    return folder


def wanted(learnt):
    """Targets of each row: the next id where it is learnt."""
    return [[*label[1:], -100] for label in learnt]


SETS = {
    "mask on the right": (padded(ROWS, 0, left=False), padded([[1] * len(r) for r in ROWS], 0, left=False), None),
    "mask on the left": (padded(ROWS, 128001, left=True), padded([[1] * len(r) for r in ROWS], 0, left=True), None),
    "pad tokens without a mask": (padded(ROWS, layout.PAD, left=False), None, None),
    "a repeated id without a mask": (padded(ROWS, 128001, left=True), None, None),
    "labels": (ROWS, None, SPOKEN),
    "labels and padding": (
        padded(ROWS, layout.TEXT_PAD, left=True),
        padded([[1] * len(r) for r in ROWS], 0, left=True),
        padded(SPOKEN, -100, left=True),
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_fit_and_prepare_learn_the_same_ids(name, tmp_path, caplog):
    ids, mask, labels = SETS[name]
    columns = {"input_ids": lists(ids)}
    columns |= {} if mask is None else {"attention_mask": lists(mask, pa.int8())}
    columns |= {} if labels is None else {"labels": lists(labels)}
    path = write(tmp_path / "set", columns)
    caplog.set_level(logging.INFO)
    prepare(path, tmp_path / "prepared")
    for place in (path, tmp_path / "prepared"):
        data = open_data(str(place), max_tokens=400, val_share=0.0)
        assert [document.input_ids.tolist() for document in data.train_set] == ROWS
        assert [d.targets.tolist() for d in data.train_set] == wanted(ROWS if labels is None else SPOKEN)
        assert int(data.train_set.lengths.sum()) == sum(map(len, ROWS))
    assert caplog.text.count("has labels") == (0 if labels is None else 2)
    assert ("are padding and are left out" in caplog.text) == (ids is not ROWS)


def test_labels_and_loss_on_speech_both_hold(tmp_path):
    some = [row[: start + 7] + [-100] * (len(row) - start - 7) for row, start in zip(ROWS, STARTS, strict=True)]
    path = write(tmp_path / "set", {"input_ids": lists(ROWS), "labels": lists(some)})
    data = open_data(str(path), max_tokens=400, val_share=0.0, loss_on="speech")
    for document, row, start in zip(data.train_set, ROWS, STARTS, strict=True):
        assert document.targets[document.targets != -100].tolist() == row[start : start + 7]
    masks = [[int(label != -100) for label in row] for row in some]
    path = write(tmp_path / "trl", {"input_ids": lists(ROWS), "completion_mask": lists(masks, pa.uint8())})
    documents = list(open_data(str(path), max_tokens=400, val_share=0.0).train_set)
    assert [document.targets.tolist() for document in documents] == wanted(some)


FAULTS = {
    "its input_ids is not a list of whole numbers, but string": {"input_ids": [str(row) for row in ROWS]},
    "but list<element: double>": {"input_ids": lists(ROWS, pa.float64())},
    "but list<element: list<element: int64>>": {"input_ids": pa.array([[row] for row in ROWS])},
    "but int64": {"input_ids": [1, 2, 3, 4, 5]},
    "a number of its input_ids is missing": {"input_ids": lists([[*row[:-1], None, row[-1]] for row in ROWS])},
    "it has no ids": {"input_ids": lists([None, [], None, [], []])},
    "an id is outside": {"input_ids": lists([[*row, 2**63 + 7] for row in ROWS], pa.uint64())},
    "its attention_mask has 1 numbers for": {"input_ids": lists(ROWS), "attention_mask": lists([[1]] * 5)},
    "attention_mask has values besides 0 and 1": {
        "input_ids": lists(ROWS),
        "attention_mask": lists([[2] * len(row) for row in ROWS]),
    },
    "attention_mask leaves out ids between real ones": {
        "input_ids": lists(ROWS),
        "attention_mask": lists([[1, 0] + [1] * (len(row) - 2) for row in ROWS]),
    },
    "its attention_mask is not a list of whole numbers, but list<element: float>": {
        "input_ids": lists(ROWS),
        "attention_mask": lists([[1.0] * len(row) for row in ROWS], pa.float32()),
    },
    "a label is neither -100 nor the id at its place": {
        "input_ids": lists(ROWS),
        "labels": lists([[*row[1:], -100] for row in ROWS]),
    },
    "its labels leave nothing to learn": {"input_ids": lists(ROWS), "labels": lists([[-100] * len(r) for r in ROWS])},
    "its labels has 2 numbers for": {"input_ids": lists(ROWS), "labels": lists([[-100, 1]] * 5)},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_used_is_refused_by_name(fault, tmp_path):
    path = write(tmp_path / "set", FAULTS[fault])
    short = fault.replace("element: ", "")
    with pytest.raises(DataError) as caught:
        open_data(str(path))
    assert short in str(caught.value).replace("element: ", "").replace("item: ", "")
    with pytest.raises(DataError) as caught:
        prepare(path, tmp_path / "prepared")
    assert "bad_tokens: 5" in str(caught.value)


@pytest.mark.parametrize(
    "kind", [pa.large_list(pa.int32()), pa.list_(pa.uint32()), pa.list_(pa.int64()), pa.list_(pa.int32(), len(ROWS[0]))]
)
def test_lists_of_every_whole_type_are_read(kind, tmp_path):
    rows = [ROWS[0]] * 3
    path = write(tmp_path / "set", {"input_ids": pa.array(rows, kind), "seconds": ["long"] * 3, "id": [1, None, 3]})
    data = open_data(str(path), max_tokens=400, val_share=0.0)
    assert [document.input_ids.tolist() for document in data.train_set] == rows
    assert {round(document.seconds, 3) for document in data.train_set} == {0.256}


def test_saved_data_sets_are_read_by_both(tmp_path):
    datasets = pytest.importorskip("datasets")
    masks = padded([[1] * len(row) for row in ROWS], 0, left=False)
    rows = datasets.Dataset.from_dict({"input_ids": padded(ROWS, 0, left=False), "attention_mask": masks})
    rows.save_to_disk(str(tmp_path / "one"), num_shards=2)
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "split"))
    datasets.DatasetDict({"validation": rows}).save_to_disk(str(tmp_path / "other"))
    for name in ("one", "split", "other/validation"):
        prepare(tmp_path / name, tmp_path / "prepared" / name)
        for path in (tmp_path / name, tmp_path / "prepared" / name):
            data = open_data(str(path), max_tokens=400, val_share=0.0, num_workers=0)
            assert [document.input_ids.tolist() for document in data.train_set] == ROWS
    with pytest.raises(DataError, match=r"has no split 'train'; it has: validation. Give one of them: .*/validation"):
        open_data(str(tmp_path / "other"))
    mix = TextMix(path=str(tmp_path / "one"), ratio=0.5)
    mixed = open_data(str(tmp_path / "one"), max_tokens=400, text_mix=mix)
    assert mixed.train_set[len(mixed.train_set) - 1].input_ids.tolist() == ROWS[-1]


def test_only_the_train_split_of_a_downloaded_set_is_read(tmp_path):
    (tmp_path / "data").mkdir()
    for name, rows in (("train", ROWS[:3]), ("test", ROWS[3:])):
        pq.write_table(pa.table({"input_ids": lists(rows)}), tmp_path / "data" / f"{name}-00000-of-00001.parquet")
    assert len(open_data(str(tmp_path), max_tokens=400, val_share=0.0).train_set) == 3


def test_text_mixes_of_a_wrong_type_are_refused(tmp_path):
    speech = write(tmp_path / "set", {"input_ids": lists(ROWS)})
    for number, column in enumerate((["a"] * 5, lists(ROWS, pa.float64()), lists([[-1]]))):
        text = write(tmp_path / str(number), {"input_ids": column})
        with pytest.raises(DataError, match=r"text_mix.path: .* rows that cannot be used"):
            open_data(str(speech), max_tokens=400, text_mix=TextMix(path=str(text)))


def test_the_command_refuses_ids_that_are_text(tmp_path, capsys):
    path = write(tmp_path / "set", {"input_ids": [str(row) for row in ROWS]})
    words = ["-c", "configs/orpheus/lm-tiny.yaml", "--data.path", str(path), "--run_dir", str(tmp_path / "run")]
    assert main(["fit", *words]) == 2
    assert "not a list of whole numbers" in capsys.readouterr().err
