"""Prepare: recordings to rows, every row accounted for, the same whatever runs, is killed or is run again."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from tts_train.datasets.store.shards import PreparedSet, describe_prepared
from tts_train.errors import DataError, RunLockedError
from tts_train.run.lock import RunLock
from tts_train_orpheus import layout
from tts_train_orpheus.codec.snac import load_codec
from tts_train_orpheus.jobs import OrpheusPrepare
from tts_train_orpheus.prompt import encode_text, speech_row
from tts_train_orpheus.tokenizer import load_tokenizer

TINY = {"codec": "tiny", "tokenizer": "tiny", "device": "cpu"}


def tone(seconds, pitch=200.0, rate=16_000):
    time_axis = np.arange(int(seconds * rate)) / rate
    wobble = 1 + 0.3 * np.sin(2 * np.pi * 3 * time_axis)
    return (0.3 * np.sin(2 * np.pi * pitch * wobble * time_axis)).astype(np.float32)


def make_corpus(folder, count=6, speakers=("",), seconds=0.6):
    """Write ``count`` recordings of different rates and lengths, speakers in turn, and their list."""
    (folder / "wavs").mkdir(parents=True)
    lines = []
    for number in range(count):
        rate = (16_000, 22_050, 24_000)[number % 3]
        sound = tone(seconds + 0.1 * (number % 4), 150 + 20 * number, rate)
        soundfile.write(folder / f"wavs/c{number:03d}.wav", sound, rate, subtype="PCM_16")
        speaker = speakers[number % len(speakers)]
        row = {"audio": f"wavs/c{number:03d}.wav", "text": f"Sentence {number}."}
        lines.append(json.dumps(row | ({"speaker": speaker} if speaker else {})))
    (folder / "list.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "list.jsonl"


def prepare(corpus, out, **options):
    return OrpheusPrepare(corpus=corpus, out=out, **{**TINY, "shard_rows": 4, **options}).run()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One corpus with two speakers, prepared once."""
    folder = tmp_path_factory.mktemp("made")
    corpus = make_corpus(folder / "corpus", 12, ("tara", "leo"))
    return corpus, folder / "out", prepare(corpus, folder / "out")


def test_rows_hold_what_the_codec_and_the_tokenizer_say(made):
    corpus, out, report = made
    prepared = PreparedSet(out, kind="orpheus/lm")
    assert len(prepared) == 12
    rows = {row["text"]: row for row in map(prepared.row, range(12))}
    sound, rate = soundfile.read(corpus.parent / "wavs/c002.wav", dtype="float32")
    assert rate == layout.SAMPLE_RATE, "this one needs no resampling"
    import torch

    audio = layout.codes_to_tokens(load_codec("tiny").encode([torch.from_numpy(sound)])[0])
    kept, repeated = layout.drop_repeated_frames(audio)
    text = encode_text(load_tokenizer("tiny"), "Sentence 2.", "tara")
    expected = speech_row(text, kept)
    row = rows["Sentence 2."]
    assert row["input_ids"].tolist() == expected.input_ids.tolist()
    assert row["prompt_tokens"] == expected.prompt
    assert row["frames"] == len(kept) // 7
    assert row["num_tokens"] == len(expected.input_ids)
    assert row["seconds"] == pytest.approx(len(sound) / rate)
    assert row["speaker"] == "tara"
    assert row["origin"].startswith("list.jsonl:")
    assert report["frames"] + report["frames_repeated"] == sum(
        -(-round(r["seconds"] * 24_000) // 2048) for r in rows.values()
    )
    assert repeated >= 0


def test_the_report_accounts_for_all(made):
    _, out, report = made
    assert report["rows"] == report["kept"] + sum(report["dropped"].values()) == 12
    assert report["speakers"] == {"leo": 6, "tara": 6}
    assert report["tokens"] == int(PreparedSet(out).lengths.sum())
    assert report["hours"] == pytest.approx(sum(PreparedSet(out).row(i)["seconds"] for i in range(12)) / 3600, abs=1e-6)
    described = describe_prepared(out)
    assert described["hash"] == report["hash"]
    assert described["settings"]["codec_fingerprint"].startswith("tiny-")


def test_a_second_run_reuses_every_shard(made):
    corpus, out, report = made
    again = prepare(corpus, out)
    assert again["shards_reused"] == report["shards_written"] > 1
    assert again["shards_written"] == 0
    assert again["hash"] == report["hash"]
    same = ("rows", "kept", "dropped", "hours", "speakers", "frames", "frames_repeated")
    assert {name: again[name] for name in same} == {name: report[name] for name in same}


@pytest.mark.slow
def test_workers_make_the_same_set(made, tmp_path):
    corpus, _, report = made
    assert prepare(corpus, tmp_path / "out", workers=2)["hash"] == report["hash"]


def test_changed_rows_and_settings_redo_only_what_they_touch(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 24, seconds=0.4)
    first = prepare(corpus, tmp_path / "out")
    soundfile.write(tmp_path / "corpus/wavs/c010.wav", tone(0.5, 500), 16_000, subtype="PCM_16")
    second = prepare(corpus, tmp_path / "out")
    assert second["shards_written"] == 1
    assert second["hash"] != first["hash"]
    third = prepare(corpus, tmp_path / "out", dedup=False)
    assert third["shards_reused"] == 0
    assert third["frames_repeated"] == 0
    assert third["frames"] == second["frames"] + second["frames_repeated"]


def test_hugging_face_opens_the_folder(made, tmp_path):
    datasets = pytest.importorskip("datasets")
    _, out, _ = made
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path))["train"]
    assert len(loaded) == 12
    assert loaded[0]["input_ids"][0] == layout.START_OF_HUMAN


@pytest.mark.parametrize(("speakers", "choice", "prefixed"), [
    (("tara", "leo"), "auto", True), (("tara",), "auto", False), (("tara",), "always", True),
    (("tara", "leo"), "never", False), (("",), "auto", False),
])  # fmt: skip
def test_the_voice_is_named_where_it_must_be(tmp_path, speakers, choice, prefixed):
    corpus = make_corpus(tmp_path / "corpus", 2, speakers)
    prepare(corpus, tmp_path / "out", voice_prefix=choice)
    ids = PreparedSet(tmp_path / "out").row(0)["input_ids"].tolist()
    text = load_tokenizer("tiny").decode(ids[2 : ids.index(layout.END_OF_TURN)])
    assert text == ("tara: Sentence 0." if prefixed else "Sentence 0.")


def test_several_voices_without_names_are_pointed_out(tmp_path, caplog):
    corpus = make_corpus(tmp_path / "corpus", 3, ("tara", "leo", ""))
    with caplog.at_level(logging.WARNING):
        prepare(corpus, tmp_path / "a")
        assert "1 rows name no speaker" in caplog.text
        prepare(corpus, tmp_path / "b", voice_prefix="never")
        assert "voices will blend" in caplog.text
    single = make_corpus(tmp_path / "single", 2)
    with pytest.raises(DataError, match="--voice_prefix never"):
        prepare(single, tmp_path / "c", voice_prefix="always")


def test_every_bad_row_is_named_and_too_many_stop(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 8)
    wavs = tmp_path / "corpus/wavs"
    (wavs / "c001.wav").write_text("<html>404</html>")
    soundfile.write(wavs / "c002.wav", np.zeros(16_000), 16_000)
    soundfile.write(wavs / "c003.wav", tone(0.1), 16_000)
    bad_text = {"audio": "wavs/c004.wav", "text": "<custom_token_2> no"}
    lines = corpus.read_text().splitlines()
    corpus.write_text("\n".join([*lines[:4], json.dumps(bad_text), *lines[5:]]) + "\n")
    with pytest.raises(DataError, match=r"4 of 8 rows were dropped[\s\S]*--max_dropped 0.51"):
        prepare(corpus, tmp_path / "out")
    assert not (tmp_path / "out/dataset.json").exists()
    report = prepare(corpus, tmp_path / "out", max_dropped=0.6)
    assert report["shards_written"] == 0, "the work of the refused run is used"
    assert report["dropped"] == {"bad_row": 1, "not_audio": 1, "silent": 1, "too_short": 1}
    dropped = [json.loads(line) for line in (tmp_path / "out/dropped.jsonl").read_text().splitlines()]
    assert sorted(row["reason"] for row in dropped) == sorted(report["dropped"])
    assert any("<custom_token_2>" in row["detail"] for row in dropped)


def test_rows_of_ids_are_checked_and_passed_on(tmp_path):
    def row(text, frames):
        codes = [np.arange(frames * rate) % 4096 for rate in layout.LEVEL_RATES]
        return speech_row(encode_text(load_tokenizer("tiny"), text), layout.codes_to_tokens(codes)).input_ids

    good = [row("one", 3), row("two", 5)]
    cut = row("three", 4)[:-5]
    shifted = np.delete(row("four", 4), len(row("four", 4)) - 10)
    (tmp_path / "corpus").mkdir()
    table = pa.table({"input_ids": pa.array([ids.tolist() for ids in [*good, cut, shifted]], pa.list_(pa.int64()))})
    pq.write_table(table, tmp_path / "corpus/rows.parquet")
    report = prepare(tmp_path / "corpus", tmp_path / "out", max_dropped=0.5)
    assert report["kept"] == 2
    assert report["dropped"] == {"bad_tokens": 2}
    prepared = PreparedSet(tmp_path / "out")
    assert [prepared.row(i)["input_ids"].tolist() for i in range(2)] == [ids.tolist() for ids in good]
    assert report["hours"] == pytest.approx(8 * 2048 / 24_000 / 3600, abs=1e-6)
    assert "no end of speech" in (tmp_path / "out/dropped.jsonl").read_text()


def test_parquet_with_sound_inside_names_voices_by_source(tmp_path):
    rows = []
    for number in range(4):
        path = tmp_path / "one.wav"
        soundfile.write(path, tone(0.5 + 0.1 * number), 16_000)
        sound = {"bytes": path.read_bytes(), "path": None}
        rows.append({"audio": sound, "text": f"Number {number}.", "source": ["tara", "leo"][number % 2]})
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "corpus/train.parquet")
    report = prepare(tmp_path / "corpus", tmp_path / "out")
    assert report["speakers"] == {"leo": 2, "tara": 2}
    ids = PreparedSet(tmp_path / "out").row(1)["input_ids"].tolist()
    assert load_tokenizer("tiny").decode(ids[2 : ids.index(layout.END_OF_TURN)]) == "leo: Number 1."
    assert prepare(tmp_path / "corpus", tmp_path / "out")["shards_written"] == 0


def test_one_writer_at_a_time(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 2)
    (tmp_path / "out").mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    try:
        with pytest.raises(RunLockedError):
            prepare(corpus, tmp_path / "out")
    finally:
        holder.kill()
        holder.wait()
    assert prepare(corpus, tmp_path / "out")["kept"] == 2


HOLD = f"""
import sys, time
from pathlib import Path
from {RunLock.__module__} import RunLock
with RunLock(Path(sys.argv[1]) / ".prepare.lock"):
    print("held", flush=True)
    time.sleep(60)
"""

RUN = """
import sys
from pathlib import Path
from tts_train_orpheus.jobs import OrpheusPrepare
if __name__ == "__main__":
    OrpheusPrepare(corpus=Path(sys.argv[1]), out=Path(sys.argv[2]), codec="tiny", tokenizer="tiny", device="cpu",
                   shard_rows=4, workers=2).run()
"""


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_set(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 32, ("tara", "leo"), seconds=1.0)
    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, str(tmp_path / "run.py"), str(corpus), str(tmp_path / "out")]
    killed = subprocess.Popen(command, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    shards = tmp_path / "out/data"
    wait_for(lambda: shards.is_dir() and len(list(shards.glob("train-*"))) >= 2)
    children = list(map(int, Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()))
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "out/dataset.json").exists(), "it must be killed in the middle"
    wait_for(lambda: not any(is_alive(child) for child in children))
    done = len(list(shards.glob("train-*")))
    report = prepare(corpus, tmp_path / "out")
    whole = prepare(corpus, tmp_path / "whole")
    assert report["shards_reused"] == done >= 2
    assert report["shards_written"] > 0
    assert report["hash"] == whole["hash"]
    assert sorted(p.name for p in shards.iterdir()) == sorted(p.name for p in (tmp_path / "whole/data").iterdir())
    assert sorted(PreparedSet(tmp_path / "out").ids) == sorted(set(PreparedSet(tmp_path / "whole").ids))


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def is_alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1][:3]
    except OSError:
        return False
