"""Prepared sets: whole or not there, checked when read, and opened by Hugging Face datasets as they are."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import time
from functools import partial

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tts_train.datasets.store.shard_store import ShardStore, describe_lengths, input_key
from tts_train.datasets.store.shards import PreparedSet, describe_prepared, is_prepared
from tts_train.errors import ConfigError, DataError, Interrupted, MissingExtraError, TTSTrainError
from tts_train.parallel.chunks import cut, run_chunks

SCHEMA = pa.schema(
    [("id", pa.string()), ("input_ids", pa.list_(pa.int32())), ("num_tokens", pa.int32()), ("speaker", pa.string())]
)
REPORT = {"rows": 101, "kept": 100, "dropped": {"silent": 1}, "hours": 0.1, "speakers": {"a": 50, "b": 50}}


def rows(first, count):
    made = [np.arange(number, number + 3 + number % 5, dtype=np.int32) for number in range(first, first + count)]
    return [
        {"id": f"u{first + i}", "input_ids": ids, "num_tokens": len(ids), "speaker": "ab"[(first + i) % 2]}
        for i, ids in enumerate(made)
    ]


def open_store(folder):
    return ShardStore(folder, SCHEMA, kind="toy/rows", length_column="num_tokens")


def build(folder, count=100, shard=30):
    store = open_store(folder)
    shards = [
        store.find(key := input_key({"v": 1}, [str(n)])) or store.write(key, rows(n, min(shard, count - n)), account={})
        for n in range(0, count, shard)
    ]
    return store.finish(shards, settings={"v": 1}, report={**REPORT, "languages": {}})


def test_rows_come_back_by_index(tmp_path):
    index = build(tmp_path / "set")
    prepared = PreparedSet(tmp_path / "set", kind="toy/rows")
    assert len(prepared) == index["rows"] == 100
    for number in (99, 0, 31, 30, 29):
        expected = rows(number, 1)[0]
        assert prepared.row(number)["input_ids"].tolist() == expected["input_ids"].tolist()
        assert prepared.row(number)["id"] == expected["id"]
    assert prepared.lengths.tolist() == [row["num_tokens"] for row in rows(0, 100)]
    assert prepared.ids[:2] == ["u0", "u1"]
    assert prepared.speaker_counts == {"a": 50, "b": 50}
    assert prepared.settings == {"v": 1}
    with pytest.raises(IndexError):
        prepared.row(100)


def test_data_workers_get_a_working_copy(tmp_path):
    build(tmp_path / "set")
    prepared = PreparedSet(tmp_path / "set")
    prepared.row(3)
    copy = pickle.loads(pickle.dumps(prepared))  # noqa: S301 - as a data worker receives it
    assert copy.row(50)["id"] == "u50"
    assert not prepared.rows.__getstate__().get("_tables"), "what was read is not sent along"


def test_the_hash_is_of_the_content(tmp_path):
    one, two, other = build(tmp_path / "a"), build(tmp_path / "b"), build(tmp_path / "c", count=99)
    assert one["hash"] == two["hash"] == PreparedSet(tmp_path / "a").hash
    assert one["hash"] != other["hash"]


def test_finished_shards_are_found_and_stale_ones_removed(tmp_path):
    build(tmp_path / "set")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set/data").iterdir()}
    stale = open_store(tmp_path / "set").write("f" * 32, rows(0, 1), account={})
    orphan = tmp_path / "set/data" / ".tmp-1-train-x.parquet"
    orphan.write_bytes(b"half")
    (tmp_path / "set/data/notes.txt").write_text("mine")
    build(tmp_path / "set")
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "set/data").iterdir()}
    assert after == before | {"notes.txt": after["notes.txt"]}
    assert stale.file.split("/")[1] not in after


def test_a_damaged_shard_is_written_again(tmp_path):
    first = build(tmp_path / "set")
    path = tmp_path / "set" / first["shards"][1]["file"]
    sound = path.read_bytes()
    for position in range(4, len(sound), max(1, len(sound) // 40)):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 0x10]) + sound[position + 1 :])
        again = build(tmp_path / "set")
        assert again["hash"] == first["hash"]
        assert PreparedSet(tmp_path / "set").row(45)["id"] == "u45"


def test_damage_is_noticed_when_a_row_is_read(tmp_path):
    index = build(tmp_path / "set")
    path = tmp_path / "set" / index["shards"][0]["file"]
    raw = bytearray(path.read_bytes())
    raw[60] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(DataError, match="tts-train prepare again"):
        PreparedSet(tmp_path / "set").row(0)


def test_what_cannot_be_opened_says_what_to_type(tmp_path):
    with pytest.raises(DataError, match=r"nothing at .* tts-train prepare"):
        PreparedSet(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no prepared set.* tts-train prepare"):
        PreparedSet(tmp_path / "empty")
    index = build(tmp_path / "set")
    with pytest.raises(DataError, match="'toy/rows' and 'other/rows' is needed"):
        PreparedSet(tmp_path / "set", kind="other/rows")
    shard = tmp_path / "set" / index["shards"][0]["file"]
    sound = shard.read_bytes()
    shard.write_bytes(sound + b" ")
    with pytest.raises(DataError, match="cannot be read"):
        PreparedSet(tmp_path / "set")
    shard.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        PreparedSet(tmp_path / "set")
    shard.write_bytes(sound)
    (tmp_path / "set/dataset.json").unlink()
    assert not is_prepared(tmp_path / "set")
    with pytest.raises(DataError, match="was not finished"):
        PreparedSet(tmp_path / "set")
    (tmp_path / "set/dataset.json").write_text('{"format": "tts-train prepared set", "version": 99}')
    with pytest.raises(DataError, match="Update tts-train"):
        PreparedSet(tmp_path / "set")


def test_hugging_face_datasets_opens_it(tmp_path):
    datasets = pytest.importorskip("datasets")
    build(tmp_path / "set")
    for arguments in ((str(tmp_path / "set"),), ("parquet",)):
        more = {"data_dir": str(tmp_path / "set")} if arguments == ("parquet",) else {}
        loaded = datasets.load_dataset(*arguments, **more, cache_dir=str(tmp_path / "cache"))
        assert list(loaded) == ["train"]
        assert len(loaded["train"]) == 100
        assert {"id", "input_ids"} <= set(loaded["train"].column_names)


def test_foreign_parquet_is_read_without_an_index(tmp_path):
    table = pa.table({"input_ids": pa.array([[1, 2, 3], [4]], pa.list_(pa.int64())), "source": ["x", None]})
    pq.write_table(table, tmp_path / "rows.parquet")
    for path in (tmp_path, tmp_path / "rows.parquet"):
        prepared = PreparedSet(path)
        assert prepared.lengths.tolist() == [3, 1]
        assert prepared.ids == ["rows.parquet:0", "rows.parquet:1"]
        assert prepared.speakers == ["x", None]
        assert prepared.row(0)["input_ids"].tolist() == [1, 2, 3]
    pq.write_table(pa.table({"audio": ["a"]}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"no column 'input_ids' \(it has audio\)"):
        PreparedSet(tmp_path)


def test_description_accounts_for_every_row(tmp_path):
    build(tmp_path / "set")
    about = describe_prepared(tmp_path / "set")
    json.dumps(about)
    assert about["rows"] == about["kept"] + sum(about["dropped"].values())
    assert sum(count for _, _, count in about["lengths"]["histogram"]) == 100
    assert about["lengths"]["total"] == sum(row["num_tokens"] for row in rows(0, 100))


def test_histogram_bars_are_round_and_few():
    bars = describe_lengths([1, 2, 1100, 549])["histogram"]
    assert bars[0][:2] == [0, 100]
    assert len(bars) <= 12
    assert describe_lengths([])["total"] == 0


def test_chunks_hold_every_item_once_and_survive_insertion():
    items = [f"i{number}" for number in range(2000)]
    before = list(cut(items, size=50, key=str))
    assert [item for chunk in before for item in chunk] == items
    assert all(25 <= len(chunk) <= 100 for chunk in before[:-1])
    assert 40 <= len(items) / len(before) <= 60
    after = list(cut([*items[:700], "new", *items[700:]], size=50, key=str))
    changed = [chunk for chunk in after if chunk not in before]
    assert len(changed) <= 4
    with pytest.raises(ConfigError):
        list(cut(items, size=0, key=str))


def square(number):
    if number == 7 and multiprocessing.parent_process() is not None and os.environ.get("TTS_TEST_KILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def mark(folder, number):
    (folder / f"worker-{number}-{os.getpid()}").touch()


def square_when_both_are_there(folder, number):
    """A process that has come first would otherwise have done everything before the other one is up."""
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)
    return square(number)


def test_results_come_in_order_from_processes(tmp_path):
    expected = [number * number for number in range(20)]
    assert list(run_chunks(square, range(20))) == expected
    work = partial(square_when_both_are_there, tmp_path)
    assert list(run_chunks(work, range(20), workers=2, setup=partial(mark, tmp_path))) == expected
    assert {path.name.split("-")[1] for path in tmp_path.iterdir()} == {"0", "1"}


def workers_left():
    """Return the processes of pools; multiprocessing's own list is late where two threads wait for one process."""
    left = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            left += [process] if "spawn_main" in " ".join(process.cmdline()) else []
    return left


def test_a_killed_worker_is_reported(monkeypatch):
    monkeypatch.setenv("TTS_TEST_KILL", "1")
    with pytest.raises(TTSTrainError, match=r"killed, often because memory ran out.* the same command again") as caught:
        list(run_chunks(square, range(20), workers=2))
    assert caught.value.exit_code == 70
    assert not workers_left()


def sleep_through(folder, number):
    if number == 3:
        os.kill(multiprocessing.parent_process().pid, signal.SIGTERM)
    if number >= 3:
        time.sleep(60)
        (folder / "slept").touch()
    return number


def test_a_stop_signal_stops_the_workers_too(tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="SIGTERM") as caught:
        list(run_chunks(partial(sleep_through, tmp_path), range(8), workers=2))
    assert caught.value.exit_code == 75
    assert not list(tmp_path.iterdir()), "the command waited for chunks that were at work"
    assert not workers_left()
    assert signal.getsignal(signal.SIGTERM) is handler


def test_ray_says_how_to_install_it():
    from tts_train.parallel.chunks import run_chunks_on_ray

    if pytest.importorskip("importlib.util").find_spec("ray"):
        assert list(run_chunks_on_ray(square, range(3), workers=1)) == [0, 1, 4]
        return
    with pytest.raises(MissingExtraError, match=r"tts-train\[ray\]"):
        list(run_chunks_on_ray(square, range(3), workers=1))
