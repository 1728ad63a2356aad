"""The stage ``dpo`` by its commands: it begins with a run, learns from its takes, and is used as any run is."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from tests.core.pair import in_pair
from tests.core.run.same_command import run_cases
from tests.families.pairs import recorded, taken
from tests.orpheus.trained_runs import write_run
from tts_train.checking import check_run
from tts_train.cli import main
from tts_train.run.checkpoint import open_checkpoint
from tts_train.sampling.identity import hash_weights
from tts_train.scoring.sentences import learned_by
from tts_train_orpheus.model import ORPHEUS

SIZES = {"hidden": 16, "layers": 1, "heads": 2, "kv_heads": 1, "mlp": 32}
SMALL = [word for name, value in SIZES.items() for word in (f"--model.tiny.{name}", str(value))]
QUICK = ["--trainer.accelerator", "cpu", "--listen.sentences", "0", "--trainer.log_every_n_steps", "1"]
QUICK += ["--model.optimizer.lr", "0.003", "--model.schedule.name", "constant"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("dpo")


@pytest.fixture(scope="module")
def base(home):
    """A small run of the stage lm, and what its takes and its training data are."""
    recorded(ORPHEUS, home / "prepared", [4 + number % 3 for number in range(8)])
    write_run(home / "lm", data=home / "prepared", tiny=SIZES)
    taken(ORPHEUS, home / "takes", 8)
    return home / "lm"


def command(base, takes, run, *words):
    named = ["--backend", "orpheus", "--stage", "dpo", "--model.init_from", str(base), "--data.path", str(takes)]
    return ["fit", *named, *QUICK, "--data.val_share", "0.3", "--run_dir", str(run), *words]


@pytest.fixture(scope="module")
def run(home, base):
    words = ["--trainer.max_steps", "12", "--data.max_tokens", "300", "--checkpoint.every_n_steps", "4"]
    adapters = ["--model.method", "lora", "--model.lora.rank", "4"]
    assert main(command(base, home / "takes", home / "run", *words, *adapters)) == 0
    return home / "run"


def figures(run, name):
    lines = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    return [line["value"] for line in lines if line["name"] == name]


def test_better_takes_become_likelier_than_worse_ones(run):
    margins, right = figures(run, "val/margin"), figures(run, "val/pair_accuracy")
    assert margins[0] == 0
    assert margins[-1] > 0.1
    assert right[-1] == 1
    assert figures(run, "train/loss")[-1] < figures(run, "train/loss")[0]
    assert figures(run, "train/kl")[0] == 0
    page = (run / "report.html").read_text()
    assert "Reward of the better take less that of the worse" in page
    assert json.loads((run / "run.json").read_text())["data"]["pairs"] == "pairs of takes"


def test_it_goes_on_with_the_numbers_of_its_start(run, home, base, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    again = command(base, home / "takes", tmp_path / "run", "--trainer.max_steps", "13", "--data.max_tokens", "300")
    assert main([*again, "--model.method", "lora", "--model.lora.rank", "4"]) == 0
    assert "from step 12" in capsys.readouterr().err
    before, after = (open_checkpoint(path).state("start_logps")["start_logps"] for path in (run, tmp_path / "run"))
    assert set(before["logps"]) == {"train", "val"}
    assert all(torch.equal(before["logps"][part], after["logps"][part]) for part in before["logps"])
    assert figures(tmp_path / "run", "val/margin")[-1] > 0.1


def test_other_pairs_are_refused_where_it_goes_on(run, home, base, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(home / "takes", tmp_path / "takes")
    adapters = ["--model.method", "lora", "--model.lora.rank", "4", "--trainer.max_steps", "14"]
    # Another folder at once; the same one with other takes when they are read.
    assert main(command(base, tmp_path / "takes", tmp_path / "run", *adapters, "--data.max_tokens", "300")) == 2
    assert "data.path" in capsys.readouterr().err
    assert main(command(base, home / "takes", tmp_path / "run", *adapters, "--data.max_tokens", "60")) == 2
    assert "are not those that this run was begun with" in capsys.readouterr().err
    assert main(command(base, home / "takes", tmp_path / "run", *adapters, "--model.loss", "ipo")) == 2
    assert "model.loss" in capsys.readouterr().err


def test_it_speaks_is_exported_and_is_the_base_of_the_next_run(run, home, tmp_path):
    card = open_checkpoint(run).card
    assert card.stage == "dpo"
    assert card.prepared["settings"]["codec"] == "tiny"
    said = ["--text", "Hello.", "--constrain", "slots", "--max_new_tokens", "56", "--seed", "1"]
    assert main(["synth", str(run), *said, "--out", str(tmp_path / "run.wav")]) == 0
    assert main(["export", str(run), "--format", "hf", "--out", str(tmp_path / "hf"), "--dtype", "fp32"]) == 0
    check_run("dpo", run, [tmp_path / "hf"])
    again = command(run, home / "takes", tmp_path / "next", "--trainer.max_steps", "1", "--data.max_tokens", "300")
    assert main(again) == 0
    assert figures(tmp_path / "next", "val/kl")[0] == 0
    plain = ["fit", "--backend", "orpheus", "--model.init_from", str(run), "--data.path", str(home / "prepared")]
    assert main([*plain, *QUICK, "--trainer.max_steps", "1", "--run_dir", str(tmp_path / "lm")]) == 0
    assert open_checkpoint(tmp_path / "lm").card.stage == "lm"  # which is meant where none is named


def test_what_it_has_learned_is_what_it_began_with_and_what_its_takes_say(run, base, home):
    before, now = learned_by(base).ids, learned_by(run).ids
    assert before
    assert now == before | {f"t{number}" for number in range(8)}


def test_every_weight_learns_from_faults_of_recordings(home, base, tmp_path):
    words = command(base, home / "prepared", tmp_path / "run", "--trainer.max_steps", "6", "--data.max_tokens", "400")
    assert main(words) == 0
    assert figures(tmp_path / "run", "val/kl")[0] == 0
    assert figures(tmp_path / "run", "val/margin")[-1] > 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["pairs"].startswith("recordings")


def test_it_is_heard_on_texts_of_its_pairs(home, base, tmp_path):
    words = command(base, home / "takes", tmp_path / "run", "--trainer.max_steps", "1", "--data.max_tokens", "300")
    heard = ["--listen.sentences", "2", "--listen.max_share", "1", "--listen.metrics", "[clipping]"]
    heard += ["--model.head.softmax", "slot"]  # so that a network of chance says whole frames
    assert main([*words, *heard]) == 0
    better = sorted(path.name for path in (tmp_path / "run" / "samples" / "codec").glob("*.wav"))
    assert better == ["utterance-1.wav", "utterance-2.wav"]
    assert figures(tmp_path / "run", "listen/runaway")  # its network knows no end yet
    # What it began with stands beside what it has become.
    assert (tmp_path / "run" / "samples" / "step-000000" / "utterance-1.wav").is_file()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("<figcaption>Before training</figcaption>") == 2


def test_takes_of_other_weights_are_told(home, base, tmp_path, caplog):
    drawn = hash_weights(open_checkpoint(base).path)
    for known, told in ((drawn, False), ("0" * 32, True)):
        caplog.clear()
        takes = taken(ORPHEUS, tmp_path / known, 8, weights_hash=known, source="runs/other")
        words = ["--trainer.max_steps", "1", "--data.max_tokens", "300"]
        assert main(command(base, takes, tmp_path / f"run-{told}", *words)) == 0
        assert ("drawn with other weights (runs/other)" in caplog.text) == told


def test_a_plan_needs_no_pairs(capsys):
    words = ["plan", "--backend", "orpheus", "--stage", "dpo", "--model.init_from", "tiny", *SMALL]
    assert main([*words, "--data.path", "nowhere", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["peak_bytes"] > 0


@pytest.mark.slow
def test_the_same_command_ends_as_if_nothing_had_happened(home, base, tmp_path):
    common = "--trainer.max_steps 5 --checkpoint.every_n_steps 1 --trainer.logger false --model.method lora"
    words = command(base, home / "takes", tmp_path / "gone", *common.split(), "--data.max_tokens", "300")
    words = words[: words.index("--run_dir")] + words[words.index("--run_dir") + 2 :]
    faults = "kill@step=3,term@step=4"
    case = run_cases([{"name": "takes", "words": words, "faults": faults}], tmp_path / "runs")["takes"]
    assert case["codes"] == [0, -9, 75, 0], case["log"]
    assert case["same"], "weights, optimisers, schedules and counters must be those of a run without faults"
    assert not case["left"]


@pytest.mark.slow
def test_two_processes_learn_as_one(home, base, tmp_path):
    words = ["--trainer.max_steps", "2", "--data.max_tokens", "60", "--trainer.precision", "32-true"]
    one = command(base, home / "takes", tmp_path / "one", *words, "--trainer.accumulate_grad_batches", "2")
    assert main(one) == 0
    two = command(
        base, home / "takes", tmp_path / "two", *words, "--trainer.devices", "2", "--trainer.strategy", "fsdp"
    )
    assert in_pair("tests.csm.pair_cases", tmp_path, [two]) == [[0]] * 2
    starts = [open_checkpoint(tmp_path / name).state("start_logps")["start_logps"]["logps"] for name in ("one", "two")]
    for part in ("train", "val"):
        torch.testing.assert_close(starts[0][part], starts[1][part], rtol=1e-6, atol=1e-4)
    one_val, two_val = (figures(tmp_path / name, "val/margin")[-1] for name in ("one", "two"))
    assert two_val == pytest.approx(one_val, rel=1e-3)
