"""What every backend's prepare does around its own encoding."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.core.corpus.sounds import TEXT, write_clips
from tts_train.cli import main
from tts_train.contract import RowEncoder
from tts_train.contract.prepare import ShardedPrepare
from tts_train.corpus import RowRejected
from tts_train.corpus.ledger import Ledger
from tts_train.disk.files import disk_errors
from tts_train.errors import DiskError, RunLockedError, TTSTrainError
from tts_train.run.lock import RunLock


@pytest.fixture
def recordings(tmp_path):
    """Two recordings and their list, which names no language."""
    write_clips(tmp_path / "recordings", ["a.wav", "b.wav"])
    (tmp_path / "recordings/x.list").write_text(f"a.wav|ann|en|{TEXT}\nb.wav|ann|en|{TEXT}\n")
    (tmp_path / "empty.list").write_text("\n")
    return tmp_path / "recordings"


def test_a_refused_prepare_leaves_nothing_behind(recordings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    orpheus = ("--backend", "orpheus", "--codec", "tiny", "--tokenizer", "tiny")
    sovits = ("--backend", "gpt_sovits", "--language", "en", "--models")
    for words in (
        ("--corpus", "nowhere", *orpheus),
        ("--corpus", "empty.list", *orpheus),
        ("--corpus", str(recordings), "--corpus_format", "nope", *orpheus),
        ("--corpus", str(recordings), "--voice_prefix", "always", *orpheus[:-1], "./nowhere"),
        ("--corpus", str(recordings), *sovits, "./nowhere"),
    ):
        assert main(["prepare", *words, "--out", "deep/new/set"]) == 2, words
        assert not (tmp_path / "deep").exists(), words
    (tmp_path / "there").mkdir()
    assert main(["prepare", "--corpus", "empty.list", *orpheus, "--out", "there"]) == 2
    assert "no rows" in capsys.readouterr().err
    assert list((tmp_path / "there").iterdir()) == []


def test_a_prepared_set_of_another_backend_is_not_replaced(recordings, tmp_path, capsys):
    out = tmp_path / "set"
    words = ["prepare", "--corpus", str(recordings), "--out", str(out)]
    assert main([*words, "--backend", "orpheus", "--codec", "tiny", "--tokenizer", "tiny"]) == 0
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    capsys.readouterr()
    assert main([*words, "--backend", "gpt_sovits", "--models", "tiny", "--language", "en"]) == 2
    said = capsys.readouterr().err
    assert "orpheus/" in said
    assert "gpt_sovits/" in said
    assert "another --out" in said
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


@contextmanager
def no_room():
    """Let this process write no byte to any file, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_with_what_to_do(recordings, tmp_path, capsys):
    class Toy(ShardedPrepare):
        def reading(self):
            raise NotImplementedError

        def encoder(self, census, device):
            raise NotImplementedError

    out = tmp_path / "deep" / "set"
    with (
        pytest.raises(DiskError, match=r"Free some space.*--out"),
        no_room(),
        Toy(corpus=recordings, out=out).holding(),
    ):
        raise AssertionError("it must not begin")
    assert not (tmp_path / "deep").exists()
    ledger = Ledger()
    ledger.drop("a", "silent")
    path = tmp_path / "x.jsonl"
    full = pytest.raises(DiskError, match=r"Free some space.*--dropped")
    with full, no_room(), disk_errors(path, option="--dropped"):
        ledger.write_dropped(path)
    assert not [*tmp_path.glob("x.jsonl*"), *tmp_path.glob(".x*")]
    for place in ("nowhere/x.jsonl", "."):
        assert main(["check", str(recordings), "--dropped", str(tmp_path / place)]) == 2
        assert "--dropped" in capsys.readouterr().err
    with RunLock(tmp_path / ".prepare.lock"), pytest.raises(RunLockedError, match="another --out"):
        Toy(corpus=recordings, out=tmp_path).holding().__enter__()


DEADLY = """
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

import tts_train.corpus.audio.decode as decode
from tts_train.contract import RowEncoder, ShardedPrepare
from tts_train.corpus import RowRejected, declare_reasons

open_sound = decode.sound_file

def deadly(file):
    # What a decoder does that crashes; also in the processes of a pool, which import this file anew.
    file.seek(0)
    if b"DEADLY" in file.read():
        os.kill(os.getpid(), signal.SIGSEGV)
    return open_sound(file)

decode.sound_file = deadly

@dataclass(frozen=True, kw_only=True)
class ToyEncoder(RowEncoder):
    kind = "toy/x"
    schema = pa.schema([("id", pa.string()), ("samples", pa.int32())])
    length_column = "samples"
    sample_rate = 16000

    def fingerprint(self):
        return {}

    def encode(self, clips, device):
        for clip in clips:
            hummed = clip.row.origin.startswith("00")
            yield RowRejected("hummed") if hummed else {"samples": len(clip.audio.samples)}

@dataclass(kw_only=True)
class ToyPrepare(ShardedPrepare):
    def reading(self):
        return ToyEncoder()

    def encoder(self, census, device):
        return ToyEncoder()

if __name__ == "__main__":
    corpus, out = map(Path, sys.argv[1:])
    declare_reasons({"hummed": "Somebody hums; record the words."})  # as loading a backend does, here alone
    ToyPrepare(corpus=corpus, out=out, workers=2, shard_rows=3, max_dropped=0.1).run()
"""


def test_recordings_that_kill_the_decoder_cost_themselves_alone(tmp_path):
    """A third party's backend, with a drop reason of its own."""
    paths = write_clips(tmp_path / "corpus", [f"{number:02}.wav" for number in range(6)])
    for number, path in enumerate(paths):
        path.with_suffix(".txt").write_text(TEXT)
        if number in (4, 5):
            path.write_bytes(path.read_bytes() + b"LIST\6\0\0\0DEADLY")
    script = tmp_path / "toy_prepare.py"
    script.write_text(DEADLY)
    done = subprocess.run(
        [sys.executable, script, tmp_path / "corpus", tmp_path / "out"], capture_output=True, text=True, timeout=240
    )
    assert "3 of 6 rows were dropped" in done.stderr
    assert "hummed: 1. Somebody hums; record the words. First: 00.wav" in done.stderr
    dropped = [json.loads(line)["origin"] for line in (tmp_path / "out/dropped.jsonl").read_text().splitlines()]
    assert sorted(dropped) == ["00.wav", "04.wav", "05.wav"]


CODES = pa.schema([("id", pa.string()), ("codes", pa.list_(pa.int32())), ("count", pa.int32())])


@dataclass(frozen=True, kw_only=True)
class Author(RowEncoder):
    """An encoder that does what a test says with the clips."""

    made: Any
    schema = CODES
    kind = "mine/speech"
    length_column = "count"
    sample_rate = 16000

    def fingerprint(self):
        return {"code_version": 1}

    def encode(self, clips, device):
        return self.made(clips)


@dataclass(frozen=True, kw_only=True)
class WithoutLength(Author):
    length_column = "frames"


@dataclass(frozen=True, kw_only=True)
class ByNumpy(Author):
    def fingerprint(self):
        return {"size": np.int64(3)}


@dataclass(kw_only=True)
class AuthorPrepare(ShardedPrepare):
    """Prepare with an encoder that is given."""

    given: RowEncoder

    def reading(self):
        return self.given

    def encoder(self, census, device):
        return self.given


def row(**columns):
    return {"codes": np.arange(3), "count": 3, **columns}


def refused(clips):
    raise RowRejected("silent")


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        (Author(made=lambda clips: [row()]), r"Author.encode was given 2 clips and yielded 1 rows.*in order"),
        (Author(made=lambda clips: [row()] * 3), "given 2 clips and yielded 3 rows"),
        (Author(made=lambda clips: None), "given 2 clips and yielded 0 rows"),
        (Author(made=lambda clips: [(1, 2)] * 2), r"yielded a tuple for x.list:1.*dict"),
        (Author(made=lambda clips: [{"codes": [1]}] * 2), r"yielded no 'count' for x.list:1, only codes"),
        (Author(made=lambda clips: [{"count": 1}] * 2), r"yielded no 'codes' for x.list:1, only count"),
        (Author(made=lambda clips: [row(count=None)] * 2), r"None as 'count' for x.list:1.*length_column"),
        (Author(made=lambda clips: [row(codes="abc")] * 2), r"column 'codes' of mine/speech rows holds list.*'a'"),
        (Author(made=lambda clips: [row(codes=np.array([0.5]))] * 2), r"column 'codes'.*an array of float64"),
        (Author(made=lambda clips: [row(count=2**40)] * 2), r"column 'count'.*holds int32.*too large"),
        (Author(made=lambda clips: [RowRejected("hummed")] * 2), r"'hummed' is no drop reason.*Backend\(reasons="),
        (Author(made=refused), r"encode raised RowRejected\('silent'\).*yield"),
        (WithoutLength(made=lambda clips: [row()] * 2), r"WithoutLength.length_column is 'frames'.*id, codes, count"),
        (ByNumpy(made=lambda clips: [row()] * 2), r"int64 is not JSON serializable.*fingerprint\(\)"),
    ],
)
def test_what_an_author_gets_wrong_is_named_and_leaves_no_shard(recordings, tmp_path, encoder, said):
    with pytest.raises(TTSTrainError, match=said):
        AuthorPrepare(corpus=recordings, out=tmp_path / "out", given=encoder).run()
    assert not [*tmp_path.glob("out/**/*.parquet")]


def test_a_column_may_be_none_and_an_empty_array_have_any_type(recordings, tmp_path):
    encoder = Author(made=lambda clips: [row(codes=None), row(codes=np.array([]), count=0)])
    report = AuthorPrepare(corpus=recordings, out=tmp_path / "out", given=encoder).run()
    assert report.kept == 2
