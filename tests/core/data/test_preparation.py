"""What every backend's prepare does around its own encoding."""

from __future__ import annotations

import pytest

from tests.core.corpus.sounds import TEXT, write_clips
from tts_train.cli import main


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
