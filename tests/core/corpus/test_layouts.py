"""Each corpus layout is detected and read: names, texts, speakers, languages, stretches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.core.corpus.sounds import TEXT, encoded, voice, write_clips
from tts_train.corpus import Rejected, Utterance, read_audio, utterance_id
from tts_train.corpus.read import LAYOUTS, open_corpus
from tts_train.corpus.rows.utterance import TokenRow
from tts_train.errors import DataError, MissingExtraError

ROWS = [f"{TEXT} Number {n}." for n in range(3)]


def read(path: Path, expected_layout: str, layout: str = "auto") -> list[Utterance]:
    corpus = open_corpus(path, layout=layout)
    assert corpus.layout == expected_layout
    rows = list(corpus.rows())
    assert [row for row in rows if not isinstance(row, Utterance)] == []
    for row in rows:
        read_audio(row.audio, root=corpus.root, start=row.start, end=row.end)
    assert len({row.id for row in rows}) == len({row.origin for row in rows}) == len(rows)
    return rows


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_ljspeech(tmp_path: Path):
    write_clips(tmp_path / "wavs", ["a-1.wav", "a-2.wav", "a.3.wav"])
    write(
        tmp_path / "metadata.csv",
        *(f"{name}|{ROWS[n][:-8]} Nr. {n}|{ROWS[n]}" for n, name in enumerate(["a-1", "a-2", "a.3"])),
    )
    rows = read(tmp_path, "metadata")
    assert [row.text for row in rows] == ROWS
    assert [row.audio.name for row in rows] == ["a-1.wav", "a-2.wav", "a.3.wav"]
    assert rows[1].id == utterance_id("wavs/a-2.wav")
    assert rows[1].origin == "metadata.csv:2"
    assert {row.speaker for row in rows} == {None}


@pytest.mark.parametrize("folder", ["", "wavs"])
@pytest.mark.parametrize("suffix", ["", ".wav"])
def test_piper(tmp_path: Path, folder: str, suffix: str):
    write_clips(tmp_path / folder, [f"u{n}.wav" for n in range(3)])
    write(tmp_path / "metadata.csv", *(f"u{n}{suffix}|{ROWS[n]}" for n in range(3)))
    assert [row.text for row in read(tmp_path, "metadata")] == ROWS


def test_piper_with_speakers(tmp_path: Path):
    write_clips(tmp_path, [f"u{n}.wav" for n in range(3)])
    write(tmp_path / "metadata.csv", *(f"u{n}.wav|{who}|{ROWS[n]}" for n, who in enumerate(["ann", "bob", "ann"])))
    rows = read(tmp_path, "metadata", "piper")
    assert [(row.speaker, row.text) for row in rows] == list(zip(["ann", "bob", "ann"], ROWS, strict=True))


def test_one_row_of_each_kind(tmp_path: Path):
    write_clips(tmp_path, ["u.wav"])
    for line, speaker, text in [
        ("u|bob|Hello there.", "bob", "Hello there."),
        ("u|Dr. Smith came.|Doctor Smith came.", None, "Doctor Smith came."),
        ("u|Hello there.", None, "Hello there."),
    ]:
        write(tmp_path / "metadata.csv", line)
        assert [(row.speaker, row.text) for row in read(tmp_path, "metadata")] == [(speaker, text)]


def test_f5(tmp_path: Path):
    paths = write_clips(tmp_path / "wavs", [f"u{n}.wav" for n in range(3)])
    write(
        tmp_path / "metadata.csv",
        "audio_file|text",
        *(f"{path}|{text}" for path, text in zip(paths, ROWS, strict=True)),
    )
    rows = read(tmp_path, "metadata")
    assert [row.text for row in rows] == ROWS
    assert rows[0].id == utterance_id("wavs/u0.wav")
    assert rows[0].warnings == ()


def test_audio_folder_csv(tmp_path: Path):
    write_clips(tmp_path, ["train/u0.wav", "train/u1.wav"])
    lines = [
        "file_name,transcription,speaker",
        '"train/u0.wav","He said ""yes"", and left.",ann',
        "train/u1.wav,Plain,",
    ]
    write(tmp_path / "metadata.csv", *lines)
    rows = read(tmp_path, "metadata", "audiofolder")
    assert [(row.text, row.speaker) for row in rows] == [('He said "yes", and left.', "ann"), ("Plain", None)]
    assert rows[1].warnings == ("speaker_missing",)


def test_audio_folder_with_a_table_in_each_split(tmp_path: Path):
    write_clips(tmp_path, ["train/u0.wav", "test/u0.wav"])
    for split in ("train", "test"):
        write(tmp_path / split / "metadata.jsonl", json.dumps({"file_name": "u0.wav", "text": f"{TEXT} {split}"}))
    rows = read(tmp_path, "jsonl", "audiofolder")
    assert [row.origin for row in rows] == ["train/metadata.jsonl:1"]


def test_list(tmp_path: Path):
    write_clips(tmp_path / "out", ["a.wav", "b.wav", "c.wav"])
    listed = tmp_path / "voice.list"
    write(
        listed,
        "out/a.wav|ann|EN|one | two || three",
        "out\\b.wav|ann|JP|にほんご",
        f"{tmp_path}/out/c.wav|bob|zh|你好。",
    )
    for path in (listed, tmp_path):
        rows = read(path, "list")
        assert [row.text for row in rows] == ["one | two || three", "にほんご", "你好。"]
        assert [row.language for row in rows] == ["en", "ja", "zh"]
        assert [row.speaker for row in rows] == ["ann", "ann", "bob"]


def test_list_in_a_folder_beside_the_audio(tmp_path: Path):
    paths = write_clips(tmp_path / "slices", ["a.wav"])
    (tmp_path / "asr").mkdir()
    write(tmp_path / "asr" / "slices.list", f"{paths[0]}|ann|en|{TEXT}")
    assert len(read(tmp_path, "list")) == 1
    (row,) = open_corpus(tmp_path / "asr" / "slices.list").rows()
    assert isinstance(row, Rejected)
    assert row.reason == "outside_root"


def test_jsonl(tmp_path: Path):
    (tmp_path / "long.wav").write_bytes(encoded(voice(4)))
    write_clips(tmp_path, ["a.wav"])
    manifest = write(
        tmp_path / "data.jsonl",
        json.dumps({"audio": "a.wav", "text": TEXT, "speaker": 7, "language": "de"}),
        json.dumps({"audio": "long.wav", "text": TEXT, "start": 0.5, "end": 2}),
        json.dumps({"audio_filepath": "long.wav", "text": "Another part of it.", "offset": 2, "duration": 1.5}),
    )
    rows = read(manifest, "jsonl")
    assert [(row.speaker, row.language, row.start, row.end) for row in rows] == [
        ("7", "de", None, None),
        (None, None, 0.5, 2.0),
        (None, None, 2.0, 3.5),
    ]
    assert [row.id for row in read(tmp_path, "jsonl")] == [row.id for row in rows]


def test_pairs(tmp_path: Path):
    write_clips(tmp_path, ["1/x.wav", "1/y.flac", "2/x.wav", "2/sub/z.wav"])
    for name, text in {
        "1/x.txt": "one",
        "1/y.lab": "two",
        "2/x.normalized.txt": "three",
        "2/sub/z.txt": "four",
    }.items():
        write(tmp_path / name, text)
    write(tmp_path / "2/x.original.txt", "3")
    write(tmp_path / "1/README.txt", "about")
    rows = read(tmp_path, "pairs")
    assert [(row.origin, row.text) for row in rows] == [
        ("1/x.wav", "one"),
        ("1/y.flac", "two"),
        ("2/x.wav", "three"),
        ("2/sub/z.wav", "four"),
    ]


def test_pairs_that_are_none(tmp_path: Path):
    write_clips(tmp_path, ["a.wav", "b.wav"])
    write(tmp_path / "a.txt", TEXT)
    write(tmp_path / "c.txt", TEXT)
    (tmp_path / "d.wav").mkdir()
    write(tmp_path / "d.txt", TEXT)
    found = {row.origin: getattr(row, "reason", "kept") for row in open_corpus(tmp_path).rows()}
    assert found == {"a.wav": "kept", "b.wav": "missing_text", "c.txt": "missing", "d.wav": "not_regular"}


def table(count: int = 3) -> dict[str, list[object]]:
    audio = [{"bytes": encoded(voice(seed=n)), "path": f"{n}.wav"} for n in range(count)]
    return {"audio": audio, "text": ROWS[:count], "source": ["ann", "bob", None][:count]}


def test_parquet(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(table()), tmp_path / "data" / "train-00000-of-00001.parquet")
    pq.write_table(pa.table(table()), tmp_path / "data" / "test-00000-of-00001.parquet")
    rows = read(tmp_path, "parquet", "huggingface")
    assert [row.text for row in rows] == ROWS
    assert [row.speaker for row in rows] == ["ann", "bob", None]
    assert rows[0].origin == "data/train-00000-of-00001.parquet:1"
    again = read(tmp_path / "data" / "test-00000-of-00001.parquet", "parquet")
    assert [row.id for row in again] == [row.id for row in rows]


def test_parquet_with_paths_and_plain_bytes(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_clips(tmp_path, ["clips/a.wav"])
    pq.write_table(
        pa.table({"audio": ["clips/a.wav", "/etc/passwd"], "sentence": [TEXT, TEXT]}), tmp_path / "p.parquet"
    )
    kept, refused = open_corpus(tmp_path).rows()
    assert isinstance(kept, Utterance)
    assert isinstance(refused, Rejected)
    assert refused.reason == "outside_root"
    pq.write_table(pa.table({"audio": [encoded()], "text": [TEXT]}), tmp_path / "p.parquet")
    assert len(read(tmp_path, "parquet")) == 1


def test_saved_data_set_and_hub_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    datasets = pytest.importorskip("datasets")
    from tts_train.corpus.layouts.hub import _load

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = datasets.Dataset.from_dict(table()).cast_column("audio", datasets.Audio(decode=False))
    rows.save_to_disk(str(tmp_path / "saved"))
    assert [row.text for row in read(tmp_path / "saved", "arrow")] == ROWS
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "splits"))
    assert [row.speaker for row in read(tmp_path / "splits", "arrow")] == ["ann", "bob", None]
    (tmp_path / "hub").mkdir()
    rows.cast_column("audio", datasets.Audio()).to_parquet(str(tmp_path / "hub" / "train.parquet"))
    loaded = _load(str(tmp_path / "hub"), "train")
    assert loaded[0]["audio"]["bytes"] == table()["audio"][0]["bytes"]


def test_hub_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    corpus = open_corpus("nobody/nothing:test")
    assert corpus.layout == "hub"
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"tts-train\[hub\]"):
        list(corpus.rows())


def test_tokenised(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "input_ids": [[5, 6, 7, 0], [8, 9], [], [3, -1], None],
        "attention_mask": [[1, 1, 1, 0], [1, 1], [], [1, 1], None],
        "labels": [[-100, 6, 7, -100], [8, 9], [], [3, -1], None],
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    first, second, *rejected = open_corpus(tmp_path).rows()
    assert isinstance(first, TokenRow)
    assert isinstance(second, TokenRow)
    assert first.input_ids.tolist() == [5, 6, 7]
    assert first.labels is not None
    assert first.labels.tolist() == [-100, 6, 7]
    assert first.id != second.id
    assert [row.reason for row in rejected if isinstance(row, Rejected)] == ["bad_tokens"] * 3


def test_experiment_folder(tmp_path: Path):
    write_clips(tmp_path / "5-wav32k", ["a.wav", "b.wav"])
    write(tmp_path / "2-name2text.txt", f"a.wav\tHH AH0\t[1, 1]\t{ROWS[0]}", f"b.wav\tHH\tNone\t{ROWS[1]}", "c.wav\tx")
    *kept, bad = open_corpus(tmp_path).rows()
    assert [(row.audio.name, row.text) for row in kept] == [("a.wav", ROWS[0]), ("b.wav", ROWS[1])]
    assert isinstance(bad, Rejected)
    assert bad.reason == "bad_row"


def test_hub_cache_snapshots_are_links_into_blobs(tmp_path: Path):
    snapshot = tmp_path / "datasets--x--y" / "snapshots" / "abc"
    blobs = snapshot.parent.parent / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "1f").write_bytes(encoded())
    (snapshot / "a.wav").symlink_to(blobs / "1f")
    write(snapshot / "metadata.jsonl", json.dumps({"file_name": "a.wav", "text": TEXT}))
    assert len(read(snapshot, "jsonl")) == 1


def test_unknown_layouts_name_the_known_ones(tmp_path: Path):
    with pytest.raises(DataError, match=r"lhotse.*metadata, list, pairs"):
        open_corpus(tmp_path, layout="lhotse")
    (tmp_path / "notes.doc").write_bytes(b"x")
    with pytest.raises(DataError, match=r"(?s)notes\.doc.*pairs: x\.wav beside"):
        open_corpus(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        open_corpus(tmp_path / "nothing")
    for path, layout in ((Path("x" * 5000), "auto"), (tmp_path, "x" * 300 + ".csv")):
        with pytest.raises(DataError, match="File name too long"):
            open_corpus(path, layout=layout)
    assert len(set(LAYOUTS)) == 8


def test_files_beside_the_corpus_do_not_mislead(tmp_path: Path):
    write_clips(tmp_path, ["a.wav", "B.WAV"])
    write(tmp_path / "a.txt", TEXT)
    write(tmp_path / "B.TXT", TEXT)
    (tmp_path / "._a.wav").write_bytes(b"macOS")
    write(tmp_path / "speakers.csv", "id,sex,age", "ann,f,30")
    assert [row.origin for row in read(tmp_path, "pairs")] == ["B.WAV", "a.wav"]
    write(tmp_path / "x.list", f"a.wav|ann|en|{TEXT}")
    with pytest.raises(DataError, match=r"speakers\.csv, x\.list.*--corpus_format"):
        open_corpus(tmp_path)
    assert len(read(tmp_path, "list", "list")) == 1
    write(tmp_path / "metadata.csv", f"a|{TEXT}")
    assert len(read(tmp_path, "metadata")) == 1


def test_other_tables(tmp_path: Path):
    write_clips(tmp_path / "clips", ["a.wav", "b.wav"])
    write(
        tmp_path / "validated.tsv",
        "client_id\tpath\tsentence\tlocale",
        f"x\ta.wav\t{TEXT}\tde",
        f'y\tb.wav\t"{TEXT}\tde',
    )
    rows = read(tmp_path, "metadata")
    assert [(row.text, row.language) for row in rows] == [(TEXT, "de"), (f'"{TEXT}', "de")]
    (tmp_path / "validated.tsv").unlink()
    write(tmp_path / "metadata.csv", "", "a.wav,no header")
    with pytest.raises(DataError, match="no header"):
        list(open_corpus(tmp_path).rows())
    write(tmp_path / "metadata.csv", "", "text|audio_file", f"{TEXT}|a.wav")
    assert [row.text for row in read(tmp_path, "metadata")] == [TEXT]


def test_several_lists_ask_which(tmp_path: Path):
    write_clips(tmp_path, ["a.wav"])
    for name in ("a.list", "b.list"):
        write(tmp_path / name, f"a.wav|x|en|{TEXT}")
    with pytest.raises(DataError, match=r"a\.list, b\.list"):
        open_corpus(tmp_path)
    assert len(read(tmp_path / "a.list", "list")) == 1
