"""``tts-train eval`` from the command line: sources, codec and base on the same held-out sentences."""

from __future__ import annotations

import json
import shutil

import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from tests.core.scoring.sounds import TEXTS, VOICE
from tests.orpheus.trained_runs import write_run
from tts_train import evaluate
from tts_train.cli import main
from tts_train.datasets.split import DEFAULT_SEED, split
from tts_train.datasets.store.shards import PreparedSet
from tts_train.recipes import recipes_folder
from tts_train.scoring.sentences import learned_by

torch.set_num_threads(1)

CLIPS, SHARE = 8, 0.4
SPOKEN = ["--codec", "tiny", "--constrain", "slots", "--max_new_tokens", 28, "--device", "cpu"]
LIGHT = ["--metrics", "duration,silence,clipping"]


def ran(capsys, *words) -> dict:
    assert main([*map(str, words), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    names = sorted(TEXTS)[:CLIPS]
    rows = [
        {"audio": str(VOICE / "wavs" / f"{name}.flac"), "text": TEXTS[name], "language": "en" if at % 2 else "de"}
        for at, name in enumerate(names)
    ]
    for row, name in zip(rows, names, strict=True):
        (folder / f"{name}.flac").write_bytes((VOICE / "wavs" / f"{name}.flac").read_bytes())
        row["audio"] = f"{name}.flac"
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "data"
    words = ["prepare", "--backend", "orpheus", "--corpus", corpus, "--out", out, "--codec", "tiny"]
    assert main([*map(str, words), "--tokenizer", "tiny", "--device", "cpu"]) == 0
    return out


@pytest.fixture(scope="module")
def runs(prepared, tmp_path_factory):
    """Two runs of the same data, the second moved further from the base."""
    folder = tmp_path_factory.mktemp("runs")
    for name, method in (("near", "lora"), ("far", "full")):
        write_run(folder / name, data=prepared, method=method, val_share=SHARE)
    return folder / "near", folder / "far"


def held_out(prepared) -> set[str]:
    rows = PreparedSet(prepared)
    return {rows.ids[row] for row in split(rows.ids, SHARE, speakers=rows.speakers, seed=DEFAULT_SEED)[1]}


def test_sources_are_compared_on_sentences_that_none_was_trained_on(runs, corpus, prepared, tmp_path, capsys):
    out = tmp_path / "eval"
    words = ["eval", *runs, "--data", corpus, "--out", out, "--sentences", 2, "--base", "tiny", *LIGHT, *SPOKEN]
    report = ran(capsys, *words)
    labels = ["recording", "codec", "near", "far", "base"]
    assert list(report["scores"]) == labels
    assert report["held_out"] == {"new": 2}
    assert report["failed"] == {}
    rows = pq.read_table(out / "rows.parquet").to_pylist()
    assert len(rows) == 2 * len(labels)
    assert {row["id"] for row in rows} <= held_out(prepared)
    for row in rows:
        info = soundfile.info(out / "audio" / row["source"] / f"{row['sentence']}.wav")
        assert info.frames / info.samplerate == pytest.approx(row["seconds"], abs=1e-3)
        assert row["learned"] is False
    by = {(row["source"], row["sentence"]): row for row in rows}
    assert by["codec", "s01"]["seconds"] == pytest.approx(by["recording", "s01"]["seconds"], abs=1e-3)
    assert by["recording", "s01"]["duration_ratio"] is None, "a recording is not compared with itself"
    found = report["scores"]["near"]["all"]["duration_ratio"]
    values = [by["near", name]["duration_ratio"] for name in ("s01", "s02")]
    assert found["n"] == 2
    assert found["mean"] == pytest.approx(sum(values) / 2)
    assert found["low"] <= found["mean"] <= found["high"]
    gap = report["differences"]["far"]["duration_ratio"]
    assert gap["mean"] == pytest.approx(report["scores"]["far"]["all"]["duration_ratio"]["mean"] - found["mean"])
    assert json.loads((out / "scores.json").read_text())["scores"] == report["scores"]
    assert "| duration_ratio → 1" in (out / "scores.md").read_text()

    options = {LIGHT[0]: LIGHT[1], **dict(zip(SPOKEN[::2], SPOKEN[1::2], strict=True))}
    named = {name.removeprefix("--"): value for name, value in options.items()}
    alone = evaluate(runs[0], data=corpus, out=tmp_path / "alone", sentences=2, **named)
    assert alone == json.loads((tmp_path / "alone" / "scores.json").read_text())
    assert alone["scores"]["near"] == report["scores"]["near"], "the same seeds, the same sounds, whoever is beside"


def test_what_was_learned_is_what_the_run_read(prepared, tmp_path):
    words = ["-c", recipes_folder() / "orpheus" / "lm-tiny.yaml", "--data.path", prepared, "--seed_everything", 7]
    words += ["--data.val_share", SHARE, "--trainer.max_steps", 1, "--run_dir", tmp_path / "run"]
    assert main([*map(str, ["fit", *words])]) == 0
    rows = PreparedSet(prepared)
    train, _ = split(rows.ids, SHARE, speakers=rows.speakers, seed=7)
    assert train != split(rows.ids, SHARE, speakers=rows.speakers, seed=DEFAULT_SEED)[0]
    assert learned_by(tmp_path / "run").ids == {rows.ids[row] for row in train}


def test_languages_are_told_apart_and_learned_sentences_labelled(runs, corpus, tmp_path, capsys):
    words = ["--data", corpus, "--out", tmp_path, "--sentences", 6, "--split", "all", "--seed", 3]
    report = ran(capsys, "eval", runs[1], *words, *LIGHT, *SPOKEN)
    assert set(report["scores"]["far"]) == {"all", "de", "en"}
    assert [report["scores"]["far"][each]["clipped"]["n"] for each in ("all", "de", "en")] == [6, 3, 3]
    assert report["held_out"]["learned"] >= 1
    assert "### de" in (tmp_path / "scores.md").read_text()


def test_only_what_was_learned_on_request(runs, corpus, prepared, tmp_path, capsys):
    words = ["--data", corpus, "--out", tmp_path / "out", "--sentences", 3, "--split", "learned"]
    report = ran(capsys, "eval", runs[1], *words, *LIGHT, *SPOKEN)
    assert report["held_out"] == {"learned": 3}
    assert not {row["id"] for row in pq.read_table(tmp_path / "out" / "rows.parquet").to_pylist()} & held_out(prepared)


def test_what_cannot_be_measured_is_named(runs, prepared, tmp_path, capsys):
    words = ["--data", prepared, "--out", tmp_path, "--sentences", 1, *SPOKEN]
    assert main([*map(str, ["eval", runs[0], *words, "--metrics", "duration"])]) == 0
    told = capsys.readouterr()
    assert "holds no recordings" in told.err
    assert "Not measured: duration (1 of 1 takes: there is no recording of this sentence)" in told.err
    assert main([*map(str, ["eval", runs[0], *words, "--metrics", "recognition"])]) == 2
    assert "--weights.recognition" in capsys.readouterr().err


def test_where_nothing_is_said_there_is_nothing_to_score(runs, corpus, tmp_path, capsys):
    words = ["--data", corpus, "--out", tmp_path, "--sentences", 2, *LIGHT, "--codec", "tiny", "--device", "cpu"]
    code = main([*map(str, ["eval", runs[0], *words, "--max_new_tokens", 3])])
    assert code == 2
    error = capsys.readouterr().err
    assert "No source said any of 2 sentences" in error
    assert f"{runs[0]}: Nothing was spoken" in error
    assert list(tmp_path.rglob("*.wav")) == []


def test_wrong_words_say_what_to_type(runs, corpus, tmp_path, capsys):
    words = ["--data", corpus, "--out", tmp_path]
    for more, told in (
        (["--sentences", 0], "--sentences is 1 or more"),
        (["--metrics", "loveliness"], "there is no such metric. Choose from: dnsmos"),
        (["--base", runs[0], "--metrics", "mcd,loveliness"], "no such metric"),
        (["--senteces", 2], "Did you mean --sentences"),
    ):
        assert main([*map(str, ["eval", runs[0], *words, *more])]) == 2
        assert told in capsys.readouterr().err
    for again in (runs[0], f"{runs[0]}/"):
        assert main([*map(str, ["eval", runs[0], again, *words])]) == 2
        assert f"named twice: {runs[0]}." in capsys.readouterr().err


def test_what_cannot_be_opened_is_told_before_anything_is_said(runs, corpus, tmp_path, capsys):
    """The first source and the last are of no use: a folder with nothing in it, and a run with a damaged file."""
    empty, damaged = tmp_path / "empty", tmp_path / "damaged"
    empty.mkdir()
    shutil.copytree(runs[0], damaged)
    for file in damaged.rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-8])
    words = ["--data", corpus, "--out", tmp_path / "out", "--sentences", 1, *LIGHT, *SPOKEN]
    assert main([*map(str, ["eval", empty, runs[0], damaged, *words, "--json"])]) == 2
    told = capsys.readouterr()
    report = json.loads(told.out.splitlines()[-1])
    assert list(report["silent"]) == ["empty", "damaged"]
    assert list(report["differences"]) == ["recording", "codec", "empty", "damaged"], "near is compared with"
    assert report["scores"]["near"]["all"]["clipped"]["n"] == 1
    assert json.loads((tmp_path / "out" / "scores.json").read_text()) == report
    lines = told.err.splitlines()
    for name in ("empty", "damaged"):
        assert sum(f"{name} cannot be opened, and is left out" in line for line in lines) == 1
    checkpoints = [line for line in lines if line.startswith("Checkpoint of ")]
    assert checkpoints[0].startswith(f"Checkpoint of near: {runs[0]}/checkpoints/step-")

    assert main([*map(str, ["eval", empty, *words, "--backend", "orpheus", "--out", tmp_path / "none"])]) == 2
    assert "No source can be opened" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
