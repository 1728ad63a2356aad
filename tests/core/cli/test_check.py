"""``check`` drops what ``prepare`` drops, and says where it cannot know."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.core.corpus.sounds import TEXT, encoded, voice
from tts_train.cli import main


@pytest.fixture
def corpus(tmp_path):
    """Rows that only some backend refuses: by length, by language, by what can be read."""
    rows = [
        ("good", 1.5, "en", TEXT),
        ("fast", 0.2, "en", "Go."),
        ("short", 0.4, "en", "Go on."),
        ("long", 57.0, "en", TEXT * 9),
        ("control", 1.5, "en", "Say <custom_token_2> aloud."),
        (
            "script",
            1.5,
            "en",
            "สวัสดี ครับ ทุกคน",
        ),
        ("tongue", 1.5, "fr", "Bonjour tout le monde."),
        ("nameless", 1.5, "", "Who knows this language?"),
    ]
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, (name, seconds, _, _) in enumerate(rows):
        (folder / f"{name}.wav").write_bytes(encoded(voice(seconds, rate=16_000, seed=number), rate=16_000))
    (folder / "x.list").write_text("".join(f"{name}.wav|ann|{code}|{text}\n" for name, _, code, text in rows))
    return folder


def run(capsys, *words) -> tuple[int, dict, str]:
    code = main([*map(str, words), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]), err


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        ("orpheus", ("--tokenizer", "tiny", "--codec", "tiny")),
        ("gpt_sovits", ("--models", "tiny", "--min-seconds", "0.3")),
    ],
)
def test_check_and_prepare_agree(corpus, tmp_path, capsys, backend, options):
    common = ("--backend", backend, *options, "--max-dropped", "0.99")
    code, told, err = run(capsys, "check", corpus, *common, "--dropped", tmp_path / "told.jsonl")
    assert code == 0
    assert "were not applied" not in err
    code, made, _ = run(capsys, "prepare", "--corpus", corpus, "--out", tmp_path / "out", *common)
    assert code == 0
    assert (told["kept"], told["dropped"]) == (made["kept"], made["dropped"])
    assert len(told["dropped"]) >= 2
    rows = [sorted(path.read_text().splitlines()) for path in (tmp_path / "told.jsonl", tmp_path / "out/dropped.jsonl")]
    assert rows[0] == rows[1]


def test_without_a_backend_the_command_with_one_is_named(corpus, tmp_path, capsys):
    code, told, err = run(capsys, "check", corpus, "--max-dropped", "1")
    assert (code, told["kept"]) == (0, 8)
    assert f"tts-train check {corpus} --backend csm or gpt_sovits or orpheus" in err
    pq.write_table(pa.table({"input_ids": [[1, 2, 3]]}), tmp_path / "x.parquet")
    assert main(["check", str(tmp_path / "x.parquet")]) == 0
    capsys.readouterr()
    assert main(["check", str(tmp_path / "x.parquet"), "--backend", "orpheus"]) == 2
    assert "bad_tokens: 1" in capsys.readouterr().err
    assert main(["check", str(corpus), "--backend", "toy"]) == 2
    assert "offers no prepare" in capsys.readouterr().err
    assert main(["check", str(corpus), "--backend", "orpheus", "--min-secs", "1"]) == 2
    assert "min_seconds" in capsys.readouterr().err
