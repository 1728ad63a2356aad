"""The stage ``grpo`` by its command: a voice draws takes of texts and learns from what is measured of them."""

from __future__ import annotations

import json

import pytest

from tests.families.pairs import recorded
from tests.orpheus.learned_runs import TEXTS, write_learned_run
from tts_train.cli import main
from tts_train.run.checkpoint import open_checkpoint
from tts_train_orpheus.model import ORPHEUS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    home = tmp_path_factory.mktemp("grpo")
    recorded(ORPHEUS, home / "prepared", [4, 5], codec="tiny")
    write_learned_run(home / "lm", data=home / "prepared")
    # Not those that it knows by heart: takes that are all alike teach nothing.
    (home / "texts.txt").write_text("Good morning to you.\nIt is cold.\n", encoding="utf-8")
    words = ["fit", "--backend", "orpheus", "--stage", "grpo", "--model.init_from", home / "lm"]
    words += ["--data.path", home / "texts.txt", "--data.texts", 2, "--data.val_share", 0, "--data.most_seconds", 1]
    words += ["--model.group", 3, "--model.reward", "stop:1, clipped:1, pace_ratio:1", "--model.head.softmax", "slot"]
    words += ["--model.method", "lora", "--model.lora.rank", 2, "--listen.sentences", 0, "--run_dir", home / "run"]
    words += ["--model.optimizer.lr", 0.01, "--model.schedule.name", "constant"]
    words += ["--trainer.max_steps", 2, "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", 1]
    assert main([*map(str, words)]) == 0
    return home / "run"


def figures(run, name):
    lines = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    return [line["value"] for line in lines if line["name"] == name]


def test_takes_are_drawn_measured_and_learnt_from(run):
    assert figures(run, "train/judged") == [1, 1]
    assert figures(run, "train/kl")[0] == 0, "adapters change nothing before the first step"
    assert all(0 <= share <= 100 for share in figures(run, "train/stop"))
    weights = open_checkpoint(run).weights()
    assert any(weights[name].count_nonzero() for name in weights if "lora_B" in name)


def test_it_speaks_as_any_run_does(run, tmp_path):
    said = ["--text", TEXTS[0], "--constrain", "slots", "--max_new_tokens", "56", "--out", str(tmp_path / "said.wav")]
    assert main(["synth", str(run), *said]) == 0
    assert (tmp_path / "said.wav").is_file()
