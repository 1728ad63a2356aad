"""Words of earlier versions: cutting and writing texts are commands of the core, and ``prepare`` says which."""

from __future__ import annotations

import shlex

import pytest

from tts_train.cli import main
from tts_train.errors import ConfigError
from tts_train.jobs.corpus import VERBS
from tts_train_gpt_sovits.preparing.prepare import GptSovitsPrepare

SLICE = ["tts-train", "corpus", "slice", "my sounds", "--out", "cut"]
REVIEW = ["tts-train", "corpus", "review"]


@pytest.mark.parametrize(
    ("words", "commands"),
    [
        (("--slices",), [SLICE, ["tts-train", "corpus", "transcribe", "cut"], [*REVIEW, "cut"]]),
        (
            ("--slices", "true", "--transcribe", "large-v3", "--language", "ja"),
            [
                SLICE,
                ["tts-train", "corpus", "transcribe", "cut", "--model", "large-v3", "--language", "ja"],
                [*REVIEW, "cut"],
            ],
        ),
        (
            ("--transcribe", "small", "--language", "auto"),
            [["tts-train", "corpus", "transcribe", "my sounds", "--model", "small"], [*REVIEW, "my sounds"]],
        ),
    ],
)
def test_the_commands_to_type_are_said(tmp_path, monkeypatch, capsys, words, commands):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my sounds").mkdir()
    assert main(["prepare", "--backend", "gpt_sovits", "--corpus", "my sounds", "--out", "cut", *words]) == 2
    told = capsys.readouterr().err
    lines = [shlex.split(line) for line in told.splitlines() if line.startswith("  tts-train ")]
    assert lines == commands
    assert "become" not in told
    assert "became commands of their own, for every backend" in told
    assert not (tmp_path / "cut").exists()


def test_from_python_too(tmp_path):
    with pytest.raises(ConfigError, match=r"corpus slice .* --out"):
        GptSovitsPrepare(corpus=tmp_path, out=tmp_path.parent / "out", slices=True).run()


def test_the_commands_are_there():
    assert {"slice", "transcribe", "review"} <= VERBS.keys()
