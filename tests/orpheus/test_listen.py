"""Orpheus heard while it trains: through its codec, without a trace in what it learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.core.scoring.sounds import write_corpus
from tts_train.cli import main
from tts_train.demo.journey import VOICE
from tts_train.recipes import find_recipe
from tts_train.report.history import History, series
from tts_train.run.checkpoint import open_checkpoint

LISTENS = ("--listen.max_share", "1", "--listen.sentences", "1", "--listen.metrics", "[clipping,silence,duration]")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("orpheus")
    out = folder / "prepared"
    words = ["prepare", "--backend", "orpheus", "--corpus", str(write_corpus(folder / "voice", 12)), "--out", str(out)]
    assert main([*words, "--codec", "tiny", "--tokenizer", "tiny"]) == 0
    return out


def fit(prepared: Path, run: Path, *words: str) -> None:
    recipe = str(find_recipe("orpheus", "lm-tiny"))
    steps = ("--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--model.head.softmax", "slot")
    told = ["fit", "-c", recipe, "--run_dir", str(run), "--data.path", str(prepared), *steps]
    assert main([*told, "--trainer.num_sanity_val_steps", "0", *words]) == 0


@pytest.fixture(scope="module")
def runs(prepared, tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    fit(prepared, folder / "heard", *LISTENS, "--listen.recordings", str(VOICE))
    fit(prepared, folder / "deaf", "--listen.sentences", "0")
    return folder / "heard", folder / "deaf"


def test_weights_are_the_same_with_and_without(runs):
    heard, deaf = (open_checkpoint(run).weights() for run in runs)
    assert heard.keys() == deaf.keys()
    assert all(torch.equal(heard[name], deaf[name]) for name in heard)


def test_each_validation_is_heard_and_scored(runs):
    samples = runs[0] / "samples"
    assert {path.name for path in samples.iterdir()} == {"reference", "codec", "step-000002"}
    for folder in samples.iterdir():
        assert {path.stem for path in folder.iterdir()} == {"utterance-1"}
    facts = json.loads((samples / "step-000002" / "utterance-1.json").read_text())
    ceiling = json.loads((samples / "codec" / "utterance-1.json").read_text())
    recording = json.loads((samples / "reference" / "utterance-1.json").read_text())
    assert facts["text"] == ceiling["text"] == recording["text"]
    # A codec gives whole frames.
    assert 0 <= ceiling["seconds"] - recording["seconds"] < 2048 / 24_000
    assert facts["sample_rate"] == 24_000
    assert facts["duration_ratio"] > 0
    logged = series(History(runs[0]).entries())
    assert [entry.step for entry in logged["listen/share"]] == [2]
    for name in ("repetition", "swallowed", "runaway"):
        assert all(0 <= entry.value <= 1 for entry in logged[f"listen/{name}"])
    assert "listen/share" not in series(History(runs[1]).entries())


@pytest.mark.slow
def test_own_texts_are_spoken_and_the_best_is_the_highest(prepared, tmp_path):
    monitor = ("--checkpoint.monitor", "val/slot_accuracy/0", "--checkpoint.mode", "max")
    often = ("--trainer.val_check_interval", "1")
    fit(prepared, tmp_path, *LISTENS, "--listen.sentences", '["Hi."]', *monitor, *often)
    assert (tmp_path / "samples" / "step-000002" / "text-1.wav").exists()
    accuracy = {e.step: e.value for e in series(History(tmp_path).entries())["val/slot_accuracy/0"]}
    best = int((tmp_path / "checkpoints" / "best").resolve().name.removeprefix("step-"))
    assert accuracy[best] == max(accuracy.values())


def test_a_codec_that_would_be_downloaded_is_not(prepared, tmp_path, caplog):
    index = json.loads((prepared / "dataset.json").read_text())
    index["settings"]["codec"] = "nobody/no-such-codec"
    other = tmp_path / "prepared"
    other.mkdir()
    (other / "data").symlink_to(prepared / "data")
    (other / "dataset.json").write_text(json.dumps(index))
    fit(other, tmp_path / "run", *LISTENS, "--trainer.max_steps", "1", "--trainer.val_check_interval", "1")
    assert not (tmp_path / "run" / "samples").exists()
    assert "nobody/no-such-codec is not on this machine" in caplog.text
