"""Pairs as data: takes, files, and faults made of recordings; what fits, what is left out, what is held out."""

from __future__ import annotations

import json
import logging
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tts_train_csm.model import CSM
from tts_train_csm.stage import CsmPairs

from tests.core.datasets.takes import take, write_takes
from tests.families.pairs import COLUMNS, drawn, prompt, taken
from tests.orpheus.test_data import write_set
from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.preference.sources import MadePairs, StoredPairs, TakePairs
from tts_train_orpheus.layout import SLOTS
from tts_train_orpheus.model import ORPHEUS
from tts_train_orpheus.stage import OrpheusPairs

END = ORPHEUS.layout.end_of_speech


def opened(path, kind=OrpheusPairs, **options):
    data = kind(str(path), **options)
    data.setup("fit")
    return data


def pairs_of(data, part="train", epoch=0):
    of = data.parts[part]
    shift = 0 if of.source.fixed else epoch * len(of)
    return {of[row].pair.id: of[row + shift].pair for row in range(len(of))}


def write_pairs(file, rows):
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def stored(number, chosen=None, rejected=None, **more):
    better = drawn(ORPHEUS, 2) if chosen is None else chosen
    worse = drawn(ORPHEUS, 3, 40) if rejected is None else rejected
    return {"prompt_ids": prompt(ORPHEUS, number), "chosen_ids": better, "rejected_ids": worse, **more}


@pytest.fixture(scope="module")
def takes(tmp_path_factory):
    return taken(ORPHEUS, tmp_path_factory.mktemp("takes") / "takes", 8, takes=4)


def test_the_best_take_stands_against_the_worst(takes):
    data = opened(takes, val_share=0.0, per_text=2)
    pairs = pairs_of(data)
    assert isinstance(data.parts["train"].source, TakePairs)
    assert len(pairs) == 16
    first, second = pairs["t0:0>3"], pairs["t0:1>2"]
    assert first.prompt.tolist() == prompt(ORPHEUS, 0)
    assert first.chosen.tolist() == drawn(ORPHEUS, 2)
    assert first.rejected.tolist() == drawn(ORPHEUS, 5, 150)
    assert second.chosen.tolist() == drawn(ORPHEUS, 3, 50)
    assert first.seconds == pytest.approx(7 * ORPHEUS.layout.frame_samples / ORPHEUS.layout.sample_rate)
    assert len(opened(takes, val_share=0.0).parts["train"]) == 8
    assert len(opened(takes, val_share=0.0, per_text=2, margin=2.0).parts["train"]) == 8  # ranks differ by 3 and by 1


def test_pairs_of_a_text_are_held_out_together(takes):
    data = opened(takes, val_share=0.4, per_text=2)
    sides = [{name.split(":")[0] for name in pairs_of(data, part)} for part in ("train", "val")]
    assert sides[0] | sides[1] == {f"t{number}" for number in range(8)}
    assert not sides[0] & sides[1]
    assert sides[1]
    heard = data.held_out()
    assert len(heard.languages) == len(sides[1])  # a text is heard once
    row = heard.row(0)
    assert row.text.startswith("Text ")
    assert row.id in sides[1]
    assert len(row.audio) % SLOTS == 0
    assert heard.facts["settings"]["codec"] == "tiny"


def test_every_pair_comes_once_an_epoch_and_batches_stay_within_the_budget(takes):
    data = opened(takes, val_share=0.0, per_text=2, max_tokens=200)
    for epoch in (0, 1):
        batches = data.train_batches(epoch)
        assert sorted(chain(*batches)) == list(range(16))
        made = [data.collate([data.train_set[row] for row in batch]) for batch in batches]
        assert all(batch["input_ids"].numel() <= 200 for batch in made)
        assert [batch["rows"].tolist() for batch in made] == batches
        # What a pair is counted as is what it takes.
        assert sum(batch["input_ids"].numel() for batch in made) == data.parts["train"].lengths.sum()
    assert data.train_batches(0) != data.train_batches(1)
    assert data.rows_in(0, 0) == data.train_batches(0)[0]


def test_a_worse_take_that_is_too_long_is_cut_at_a_frame_and_a_better_one_is_left_out(tmp_path, caplog):
    known = {"prompt_ids": prompt(ORPHEUS, 0)}
    rows = [
        take("runs", 0, 1.0, **known, drawn_ids=drawn(ORPHEUS, 2)),
        take("runs", 1, -1.0, **known, drawn_ids=drawn(ORPHEUS, 40, ended=False), ended=False),
        take("long", 0, 1.0, **known, drawn_ids=drawn(ORPHEUS, 30)),
        take("long", 1, -1.0, **known, drawn_ids=drawn(ORPHEUS, 2, 9)),
    ]
    folder = write_takes(tmp_path / "takes", rows, columns=COLUMNS)
    with caplog.at_level(logging.INFO):
        data = opened(folder, val_share=0.0, max_tokens=100)
    (pair,) = pairs_of(data).values()
    room = 100 - len(pair.prompt) - len(pair.chosen) - 1
    assert pair.rejected.tolist() == drawn(ORPHEUS, room // SLOTS, ended=False)
    assert data.describe()["left_out"] == {"too_long": 1}
    assert data.max_length == len(pair.prompt) + room
    assert "the worse take of 1 pairs is longer than fits and is cut at a frame" in caplog.text
    assert "1 left out: too_long" in caplog.text
    with pytest.raises(DataError, match=r"No pair of .* is short enough for --data.max_tokens 20: raise it; 3"):
        opened(folder, val_share=0.0, max_tokens=20)


def test_takes_that_are_no_utterances_are_left_out_by_name_and_many_are_refused(tmp_path):
    def folder(name, wrong):
        good = {"drawn_ids": drawn(ORPHEUS, 2), "prompt_ids": prompt(ORPHEUS, 0)}
        worse = {"drawn_ids": drawn(ORPHEUS, 2, 9), "prompt_ids": prompt(ORPHEUS, 0)}
        rows = [take(f"t{text}", 0, 1.0, **good) for text in range(30)]
        rows += [take(f"t{text}", 1, 0.0, **worse) for text in range(30)]
        for text in range(wrong):
            rows[text]["drawn_ids"] = drawn(ORPHEUS, 2)[1:]
        return write_takes(tmp_path / name, rows, columns=COLUMNS)

    fault = f"the better take is not whole frames of {SLOTS} ids"
    data = opened(folder("few", 1), val_share=0.0)
    assert len(data.parts["train"]) == 29
    assert data.describe()["left_out"] == {fault: 1}
    with pytest.raises(DataError, match=f"5 of 30 pairs in .* cannot be used.\n  5 pairs: {fault}; t0:0>30, t1:1>31"):
        opened(folder("many", 5))


def test_takes_that_are_the_same_are_left_out_and_refuse_no_set(tmp_path):
    # A codec that decodes with noise lets two takes of the same ids be measured differently.
    good, worse = ({"prompt_ids": prompt(ORPHEUS, 0), "drawn_ids": drawn(ORPHEUS, 2, start)} for start in (0, 9))
    rows = [take(f"t{text}", 0, 1.0, **good) for text in range(10)]
    rows += [take(f"t{text}", 1, 0.0, **(good if text < 4 else worse)) for text in range(10)]
    data = opened(write_takes(tmp_path / "takes", rows, columns=COLUMNS), val_share=0.0)
    assert len(data.parts["train"]) == 6
    assert data.describe()["left_out"] == {"both takes are the same": 4}
    with pytest.raises(DataError, match=r"4 of 4 pairs in .* cannot be used"):
        opened(write_takes(tmp_path / "all", [*rows[:4], *rows[10:14]], columns=COLUMNS))


def test_texts_without_a_pair_are_counted(tmp_path):
    known = {"prompt_ids": prompt(ORPHEUS, 0), "drawn_ids": drawn(ORPHEUS, 2)}
    rows = [take("one", 0, 1.0, **known), take("even", 0, 1.0, **known), take("even", 1, 1.0, **known)]
    folder = write_takes(tmp_path / "takes", rows, columns=COLUMNS)
    with pytest.raises(DataError, match=r"gives no pair .*fewer than two takes could be judged.*--data.margin"):
        opened(folder)


def test_takes_of_another_backend_are_refused(tmp_path):
    folder = taken(CSM, tmp_path / "takes", 2)
    with pytest.raises(DataError, match="holds takes of backend 'csm', and those of 'orpheus' are needed"):
        opened(folder)


def test_a_file_of_pairs_is_read_and_its_prompts_are_its_texts(tmp_path):
    rows = [stored(number // 2, rejected=drawn(ORPHEUS, 3, 30 + number), id=f"p{number}") for number in range(12)]
    data = opened(write_pairs(tmp_path / "pairs.parquet", rows), val_share=0.3)
    assert isinstance(data.parts["train"].source, StoredPairs)
    held = set(pairs_of(data, "val"))
    assert held
    assert held == {f"p{number}" for number in range(12) if f"p{number ^ 1}" in held}  # both pairs of a prompt
    pair = next(iter(pairs_of(data).values()))
    assert pair.chosen.tolist() == drawn(ORPHEUS, 2)
    before = data.describe()["hash"]
    write_pairs(tmp_path / "pairs.parquet", rows[:-1])
    assert opened(tmp_path / "pairs.parquet").describe()["hash"] != before


def test_pairs_without_a_name_are_named_by_their_row_and_prompt(tmp_path):
    rows = [stored(number, id=None if number else "first", text_id=None if number else "t") for number in range(3)]
    source = opened(write_pairs(tmp_path / "pairs.parquet", rows), val_share=0.0).parts["train"].source
    assert source.ids == ["first", "row:1", "row:2"]
    assert source.texts[0] == "t"
    assert len(set(source.texts)) == 3


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"prompt_ids": [1, 2]}, "prompt_ids does not end with the start of speech"),
        ({"prompt_ids": []}, "prompt_ids has no ids"),
        ({"chosen_ids": [*drawn(ORPHEUS, 1)[:-1], 10**6, END]}, "the better take has an id outside of 0"),
        ({"chosen_ids": drawn(ORPHEUS, 2, ended=False)}, "the better take does not end with the end of speech"),
        ({"chosen_ids": [END]}, "or has no sound"),
        ({"rejected_ids": [END, *drawn(ORPHEUS, 2)]}, "the worse take goes on behind its end of speech"),
        ({"rejected_ids": drawn(ORPHEUS, 2)}, "both takes are the same"),
    ],
)
def test_what_is_no_pair_is_told(changed, fault, tmp_path):
    write_pairs(tmp_path / "pairs.parquet", [{**stored(0), **changed}])
    with pytest.raises(DataError, match=fault):
        opened(tmp_path / "pairs.parquet")


def test_a_worse_take_with_ids_in_wrong_slots_is_one_and_is_not_where_a_frame_is_one_position(tmp_path):
    slips = [*drawn(ORPHEUS, 2)[:9], 12, *drawn(ORPHEUS, 1)]
    write_pairs(tmp_path / "slips.parquet", [stored(0, rejected=slips)])
    assert [pair.rejected.tolist() for pair in pairs_of(opened(tmp_path / "slips.parquet")).values()] == [slips]
    frames = {"prompt_ids": prompt(CSM, 0), "chosen_ids": drawn(CSM, 2), "rejected_ids": drawn(CSM, 3)[1:]}
    write_pairs(tmp_path / "frames.parquet", [frames])
    with pytest.raises(DataError, match="the worse take is not whole frames of 32 ids"):
        opened(tmp_path / "frames.parquet", CsmPairs)


def test_recordings_stand_against_themselves_with_another_fault_in_each_epoch(tmp_path):
    folder = write_set(tmp_path / "set", [3 + number % 8 for number in range(20)])
    data = opened(folder, val_share=0.2, max_tokens=300)
    assert isinstance(data.parts["train"].source, MadePairs)
    assert not data.fixed
    epochs = [pairs_of(data, epoch=epoch) for epoch in (0, 1, 0)]
    again = opened(folder, val_share=0.2, max_tokens=300)
    assert [row for batch in data.train_batches(3) for row in batch] != [
        row for batch in data.train_batches(4) for row in batch
    ]
    differ = 0
    for name, pair in epochs[0].items():
        assert pair.chosen[-1] == pair.rejected[-1] == END
        assert ORPHEUS.layout.read_generated(pair.rejected).errors == 0
        assert pair.rejected.tolist() != pair.chosen.tolist()
        assert pair.rejected.tolist() == epochs[2][name].rejected.tolist()
        assert pair.rejected.tolist() == pairs_of(again)[name].rejected.tolist()
        differ += pair.rejected.tolist() != epochs[1][name].rejected.tolist()
    assert differ > len(epochs[0]) / 2
    for epoch in (0, 5):
        for batch in data.train_batches(epoch):
            assert data.collate([data.train_set[row] for row in batch])["input_ids"].numel() <= 300
    assert (
        data.held_out().row(0).audio.tolist() == pairs_of(data, "val")[data.held_out().row(0).id].chosen[:-1].tolist()
    )
    assert data.remember()["settings"] == {"tokenizer": "tiny"}


def test_a_set_of_its_own_may_be_held_out(takes, tmp_path):
    other = taken(ORPHEUS, tmp_path / "other", 3)
    data = opened(takes, val_path=str(other))
    assert (data.describe()["train_rows"], data.describe()["val_rows"]) == (8, 3)
    assert data.describe()["hashes"] == {"val_path": data.parts["val"].source.hash}
    foreign = {"settings": {"codec_fingerprint": "b", "codec": "other"}}
    ours = taken(ORPHEUS, tmp_path / "ours", 3, data={"settings": {"codec_fingerprint": "a", "codec": "tiny"}})
    theirs = taken(ORPHEUS, tmp_path / "theirs", 3, data=foreign)
    with pytest.raises(ConfigError, match="its ids mean other things"):
        opened(ours, val_path=str(theirs))


def test_what_lies_there_is_told_where_it_holds_no_pairs(tmp_path):
    with pytest.raises(DataError, match=r"There is nothing at .*: tts-train sample RUN --texts FILE --out"):
        opened(tmp_path / "none")
    write_pairs(tmp_path / "rows.parquet", [{"input_ids": [1, 2]}])
    with pytest.raises(
        DataError, match=r"has no column prompt_ids, chosen_ids, rejected_ids .it has input_ids., so it"
    ):
        opened(tmp_path / "rows.parquet")
    for wrong, kind in (("one two", "string"), ([0.5], "list<element: double>")):
        write_pairs(tmp_path / "wrong.parquet", [{**stored(0), "chosen_ids": wrong}])
        with pytest.raises(DataError, match=f"chosen_ids of .* is not a list of whole numbers a row, but {kind}"):
            opened(tmp_path / "wrong.parquet")
    about = {"format": "tts-train takes", "version": 1, "backend": "orpheus", "takes": 1, "hash": "x"}
    folder = write_takes(tmp_path / "bare", [take("a", 0, 1.0)])
    (folder / "takes.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="have no column prompt_ids, drawn_ids: draw them again"):
        opened(folder)


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"per_text": 0}, {"margin": -1.0}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=r"must be 1 or more and --data.margin 0 or more"):
        OrpheusPairs("somewhere", **options)


@pytest.mark.parametrize("kind", [OrpheusPairs, CsmPairs])
def test_a_plan_has_pairs_of_usual_length(kind):
    data = kind("nowhere")
    for size in (700, 3000, 10_000):
        batch = data.sample_batch(size)
        assert 0.97 * size - 2 * SLOTS <= batch["input_ids"].numel() <= size
    assert len(data.sample_batch(300)["rows"]) == 1


@pytest.mark.parametrize("values", [["a b"], [[1.5, 2.5]], [7]])
@pytest.mark.parametrize("name", ["prompt_ids", "rejected_ids"])
def test_columns_that_hold_no_ids_are_refused_by_their_type(tmp_path, name, values):
    good = pa.Table.from_pylist([stored(0)])
    table = good.set_column(good.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(table, tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match=f"The column {name} .* is not a list of whole numbers"):
        opened(tmp_path / "pairs.parquet")


def test_a_row_that_names_no_text_is_known_by_its_prompt(tmp_path):
    rows = [{**stored(number), "text_id": None if number else "a", "id": None} for number in range(4)]
    write_pairs(tmp_path / "pairs.parquet", rows)
    source = opened(tmp_path / "pairs.parquet", val_share=0.0).parts["train"].source
    assert source.texts[0] == "a"
    assert len(set(source.texts)) == 4
    assert source.ids == [f"row:{row}" for row in range(4)]


def test_takes_that_are_not_finished_are_told_as_such(tmp_path):
    (tmp_path / "begun.json").write_text("{}")
    with pytest.raises(DataError, match=r"are not finished\. Run the same tts-train sample again"):
        opened(tmp_path)


def test_where_no_take_can_be_preferred_no_smaller_margin_is_advised(tmp_path):
    known = {"prompt_ids": prompt(ORPHEUS, 0), "drawn_ids": drawn(ORPHEUS, 2), "ended": False}
    folder = write_takes(tmp_path / "takes", [take("a", n, float(n), **known) for n in range(2)], columns=COLUMNS)
    with pytest.raises(DataError, match="no take ended by itself") as told:
        opened(folder)
    assert "--data.margin" not in str(told.value)
    assert "takes.html" in str(told.value)
