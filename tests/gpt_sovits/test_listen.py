"""Stages heard while they train: a GPT through the SoVITS of its data, a SoVITS by the tokens of recordings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from tests.core.scoring.sounds import write_corpus
from tts_train.cli import main
from tts_train.recipes import find_recipe
from tts_train.report.history import History, series
from tts_train.run.checkpoint import open_checkpoint

LISTENS = ("--listen.max_share", "1", "--listen.sentences", "1", "--listen.metrics", "[clipping,silence,duration]")

PLAIN = ("--trainer.accelerator", "cpu", "--trainer.precision", "32-true")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gpt")
    out = folder / "prepared"
    corpus = write_corpus(folder / "voice", 20)
    words = ["prepare", "--backend", "gpt_sovits", "--corpus", str(corpus), "--out", str(out)]
    assert main([*words, "--models", "tiny", "--language", "en"]) == 0
    return out


def fit(stage: str, prepared: Path, run: Path, *words: str) -> None:
    recipe = str(find_recipe("gpt_sovits", f"{stage}-tiny"))
    steps = ("--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--trainer.num_sanity_val_steps", "0")
    assert main(["fit", "-c", recipe, "--run_dir", str(run), "--data.path", str(prepared), *steps, *words]) == 0


@pytest.mark.parametrize("stage", ["gpt", "dpo"])
def test_it_is_heard_and_learns_the_same(prepared, tmp_path, stage):
    heard, deaf = tmp_path / "heard", tmp_path / "deaf"
    fit(stage, prepared, heard, *LISTENS)
    fit(stage, prepared, deaf, "--listen.sentences", "0")
    one, other = open_checkpoint(heard).weights(), open_checkpoint(deaf).weights()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    samples = heard / "samples"
    assert {path.name for path in samples.iterdir()} == {"reference", "codec", "step-000002"}
    for folder in samples.iterdir():
        assert {path.stem for path in folder.iterdir()} == {"utterance-1"}
    facts = json.loads((samples / "step-000002" / "utterance-1.json").read_text())
    assert (facts["sample_rate"], facts["language"]) == (32_000, "en")
    assert facts["duration_ratio"] > 0
    logged = series(History(heard).entries())
    assert [entry.step for entry in logged["listen/runaway"]] == [2]


def test_own_texts_are_spoken(prepared, tmp_path):
    fit("gpt", prepared, tmp_path, *LISTENS, "--listen.sentences", '["Good morning."]')
    facts = json.loads((tmp_path / "samples" / "step-000002" / "text-1.json").read_text())
    assert facts["text"] == "Good morning."


def fit_cfm(prepared: Path, run: Path, *words: str) -> None:
    small = ("--model.init_from", "tiny", "--model.lora_rank", "2", "--data.batch_size", "2", "--data.val_share", "0.1")
    steps = ("--trainer.max_steps", "1", "--trainer.val_check_interval", "1", "--trainer.num_sanity_val_steps", "0")
    recipe = ("-c", str(find_recipe("gpt_sovits", "cfm-v4")), "--run_dir", str(run), "--data.path", str(prepared))
    assert main(["fit", *recipe, *small, *steps, *PLAIN, *words]) == 0


def test_sovits_sounds_recordings_by_their_own_tokens(prepared, tmp_path, caplog):
    heard, deaf = tmp_path / "heard", tmp_path / "deaf"
    board = ("--listen.sentences", "2")
    fit("sovits", prepared, heard, *LISTENS, *board)
    # An older recipe that asks for no samples stays silent, and is told what to write.
    fit("sovits", prepared, deaf, "--model.samples", "0")
    assert "Write --listen.sentences 0 instead" in caplog.text
    one, other = open_checkpoint(heard).weights(), open_checkpoint(deaf).weights()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(deaf.glob("samples/step-*"))
    samples = heard / "samples"
    assert {path.name for path in samples.iterdir()} == {"reference", "step-000002"}
    for folder in samples.iterdir():
        assert {path.stem for path in folder.iterdir()} == {"utterance-1", "utterance-2"}
    facts = json.loads((samples / "step-000002" / "utterance-1.json").read_text())
    known = json.loads((samples / "reference" / "utterance-1.json").read_text())
    assert (facts["sample_rate"], facts["language"], facts["text"]) == (32_000, "en", known["text"])
    assert facts["duration_ratio"] == pytest.approx(1.0, abs=0.35)
    assert [entry.step for entry in series(History(heard).entries())["listen/duration_ratio"]] == [2]


@pytest.mark.slow
def test_cfm_sounds_mel_spectrograms_beside_what_these_leave(prepared, tmp_path):
    fit_cfm(prepared, tmp_path, *LISTENS)
    samples = tmp_path / "samples"
    assert {path.name for path in samples.iterdir()} == {"reference", "codec", "step-000001"}
    sounds = [soundfile.read(samples / kind / "utterance-1.wav") for kind in ("reference", "codec", "step-000001")]
    assert {rate for _, rate in sounds} == {32_000}
    lengths = [len(sound) for sound, _ in sounds]
    assert max(lengths) - min(lengths) < 2_000


def test_a_text_needs_a_gpt_for_sovits(prepared, tmp_path, capsys):
    text = ("--listen.sentences", '["Good morning."]')
    recipe = ["fit", "-c", str(find_recipe("gpt_sovits", "sovits-tiny")), "--data.path", str(prepared)]
    other = ("--model.gpt", str(prepared / "absent.ckpt"))
    for words, told in ((text, "name one with --model.gpt"), (other, "There is no file")):
        assert main([*recipe, "--run_dir", str(tmp_path / "alone"), *LISTENS, *words]) == 2
        assert told in capsys.readouterr().err
        assert not list(tmp_path.glob("alone/checkpoints/*")), "it must be said before a step is taken"
    fit("sovits", prepared, tmp_path / "both", *LISTENS, *text, "--model.gpt", "tiny")
    facts = json.loads((tmp_path / "both" / "samples" / "step-000002" / "text-1.json").read_text())
    assert facts["text"] == "Good morning."
    assert facts["tokens"] > 0


def test_a_text_that_cannot_be_read_is_refused_before_training(prepared, tmp_path, capsys):
    recipe = ["fit", "-c", str(find_recipe("gpt_sovits", "gpt-tiny")), "--data.path", str(prepared)]
    words = ["--run_dir", str(tmp_path), *LISTENS, "--listen.sentences", '["Good morning.", "สวัสดี"]']
    assert main([*recipe, *words]) == 2
    assert "(Thai)" in capsys.readouterr().err
    assert not list(tmp_path.glob("checkpoints/*"))


@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_two_processes_agree_and_learn_the_same(prepared, tmp_path):
    runs = {"heard": [*LISTENS, "--checkpoint.monitor", "listen/duration_ratio"], "deaf": ["--listen.sentences", "0"]}
    for name, words in runs.items():
        fit_in_two(prepared, tmp_path / name, "ddp", *words)
    one, other = (open_checkpoint(tmp_path / name).weights() for name in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {path.name for path in (tmp_path / "heard" / "samples").glob("step-*")} == {"step-000001", "step-000002"}
    assert (tmp_path / "heard" / "checkpoints" / "best").exists()
    told = fit_in_two(prepared, tmp_path / "sharded", "fsdp", *LISTENS)
    assert "No process of this strategy has the whole network" in told
    assert not (tmp_path / "sharded" / "samples").exists()


def fit_in_two(prepared: Path, run: Path, strategy: str, *words: str) -> str:
    recipe = ["-c", str(find_recipe("gpt_sovits", "gpt-tiny")), "--run_dir", str(run), "--data.path", str(prepared)]
    several = ["--trainer.devices", "2", "--trainer.strategy", strategy, "--data.max_tokens", "600"]
    steps = ["--trainer.max_steps", "2", "--trainer.val_check_interval", "1"]
    command = [sys.executable, "-m", "tts_train", "fit", *recipe, *several, *steps, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stderr
