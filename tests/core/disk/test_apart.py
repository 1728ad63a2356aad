"""No command writes into what it reads, and nothing that prepare wrote is read as recordings."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from tests.core.corpus.sounds import TEXT, write_clips
from tts_train.cli import main
from tts_train.corpus.read import open_corpus
from tts_train.datasets.store.shard_store import ShardStore
from tts_train.errors import DataError

PREPARE = ("prepare", "--backend", "orpheus", "--codec", "tiny", "--tokenizer", "tiny")


@pytest.fixture
def recordings(tmp_path, monkeypatch):
    """Two recordings in ``recordings``, which is also called ``link``; the working directory is the folder above."""
    folder = tmp_path / "above" / "recordings"
    write_clips(folder / "wavs", ["a.wav", "b.wav"])
    (folder / "metadata.csv").write_text(f"a|{TEXT}\nb|{TEXT}\n")
    (tmp_path / "above" / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path / "above")
    return folder


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("corpus", "out"),
    [
        ("recordings", "recordings"),
        ("recordings", "./recordings/../recordings/"),
        ("recordings", "link"),
        ("link", "recordings/prepared"),
        ("recordings", "link/wavs/deep/prepared"),
        ("recordings", "."),
        ("recordings", "../above"),
        ("recordings", "/"),
        ("recordings/metadata.csv", "recordings"),
        ("recordings/metadata.csv", "link"),
        ("recordings/metadata.csv", "."),
    ],
)
def test_prepare_writes_nothing_into_its_corpus(recordings, corpus, out, capsys):
    before = tree(recordings.parent)
    assert main([*PREPARE, "--corpus", corpus, "--out", out]) == 2
    said = capsys.readouterr().err
    assert "would be read again" in said
    assert f"--corpus {corpus}" in said
    assert tree(recordings.parent) == before


def test_the_other_commands_write_nothing_into_what_they_read(recordings, capsys):
    (recordings / "run" / "checkpoints" / "step-000001").mkdir(parents=True)
    source, audio = str(recordings / "run"), str(recordings / "wavs/a.wav")
    before = tree(recordings.parent)
    gpt = ("--backend", "gpt_sovits", "--corpus", "recordings", "--out")
    export = ("export", source, "--backend", "orpheus", "--format", "hf", "--out")
    synth = ("synth", source, "--backend", "gpt_sovits", "--stage", "gpt", "--reference", audio)
    voice = ("--text", "Hello.", "--out")
    for words, said in [
        (("check", "recordings", "--dropped", "link/dropped.jsonl"), "--dropped"),
        (("check", "recordings/metadata.csv", "--dropped", "recordings/dropped.jsonl"), "--dropped"),
        (("prepare", *gpt, "recordings/cut", "--slices", "true"), "--out recordings/cut"),
        (("prepare", *gpt, "out", "--experiment", "link/logs"), "--experiment link/logs"),
        ((*export, source), "the source"),
        ((*export, f"{source}/checkpoints/hf"), "checkpoints"),
        (("synth", audio, "--backend", "orpheus", *voice, "link/wavs/a.wav"), "the source"),
        ((*synth, *voice, audio), "--reference"),
        (("eval", source, "--backend", "orpheus", "--data", "recordings", "--out", "link/scores"), "--data"),
    ]:
        assert main(list(words)) == 2, words
        assert said in capsys.readouterr().err
        assert tree(recordings.parent) == before


def test_what_prepare_wrote_is_no_corpus(recordings, tmp_path):
    store = ShardStore(
        tmp_path / "set",
        pa.schema([("input_ids", pa.list_(pa.int32())), ("num", pa.int32())]),
        kind="toy/x",
        length_column="num",
    )
    shard = store.write("0" * 32, [{"input_ids": [1, 2], "num": 2}], account={})
    with pytest.raises(DataError, match="a folder that prepare wrote"):  # stopped before it was finished
        list(open_corpus(tmp_path / "set").rows())
    store.finish([shard], settings={}, report={})
    for path in (tmp_path / "set", tmp_path / "set/data", tmp_path / "set" / shard.file):
        with pytest.raises(DataError, match="a folder that prepare wrote"):
            list(open_corpus(path).rows())
    # A set that an earlier version wrote among the recordings.
    shutil.copytree(tmp_path / "set", recordings, dirs_exist_ok=True)
    with pytest.raises(DataError, match=r"move dataset\.json"):
        open_corpus(recordings)
