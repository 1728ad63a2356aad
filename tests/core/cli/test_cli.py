"""The command line: verbs, options, recipes, errors with their exit codes. The toy backend is what is trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from tts_train.cli import main
from tts_train.configuration.select import select
from tts_train.configuration.words import understood
from tts_train.errors import ConfigError
from tts_train.recipes import find_recipe
from tts_train.training.parser import TrainingParser


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text("backend: toy\nmodel:\n  bins: 64\n  width: ${model.bins}\ntrainer:\n  max_steps: 6\n")
    return path


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parsed(*words):
    selection = select(words)
    return TrainingParser("fit", selection.load(), selection.rest)


def test_flags_override_files_and_references_follow(recipe, tmp_path):
    later = tmp_path / "later.yaml"
    later.write_text("model:\n  lr: 0.5\n")
    config = parsed("-c", str(recipe), "-c", str(later), "--model.bins", "32").resolved
    assert config["model"] == {"bins": 32, "width": 32, "lr": 0.5}


def test_options_of_a_strategy_that_is_not_used_are_not_passed_over_in_silence(caplog):
    words = ["--backend", "toy", "--trainer.accelerator", "cpu", "--trainer.logger", "false"]
    parsed(*words, "--trainer.strategy", "auto").make_trainer([])
    parsed(*words, "--trainer.strategy", "fsdp", "--fsdp.wrap", "size").make_trainer([])
    assert "--fsdp" not in caplog.text
    parsed(*words, "--fsdp.wrap", "size", "--fsdp.prefetch", "2").make_trainer([])
    assert "--fsdp.wrap, --fsdp.prefetch change nothing: --trainer.strategy is auto, not fsdp." in caplog.text


def test_a_switch_may_stand_alone():
    trainer = parsed("--backend", "toy", "--trainer.detect_anomaly", "--trainer.max_steps", "3").resolved["trainer"]
    assert (trainer["detect_anomaly"], trainer["max_steps"]) == (True, 3)
    assert (
        parsed("--backend", "toy", "--trainer.detect_anomaly", "false").resolved["trainer"]["detect_anomaly"] is False
    )


def test_references_work_on_the_command_line(recipe):
    assert (
        parsed("-c", str(recipe), "--trainer.max_epochs", "${trainer.max_steps}").resolved["trainer"]["max_epochs"] == 6
    )


def test_a_saved_configuration_reruns_alone(recipe, tmp_path):
    first = parsed("-c", str(recipe), "--model.bins", "32")
    saved = tmp_path / "saved.yaml"
    saved.write_text(yaml.safe_dump(first.resolved))
    assert parsed("-c", str(saved)).resolved == first.resolved


def test_one_seed_for_everything(recipe):
    assert parsed("-c", str(recipe), "--seed_everything", "7").datamodule.seed == 7


def test_print_config(capsys):
    assert main(["fit", "--backend", "toy", "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["backend"] == "toy"
    assert printed["checkpoint"]["every_n_steps"] == 500


def test_help_lists_options_with_types_and_texts(capsys):
    assert main(["fit", "--backend", "toy", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "--model.bins BINS" in out
    assert "Points of a spectrum between 0 and 1000 Hz." in out
    assert "Optimiser steps between checkpoints" in out


@pytest.mark.parametrize("verb", ["fit", "prepare", "synth", "export", "eval"])
def test_help_without_a_backend_says_where_the_options_are(verb, capsys):
    assert main([verb, "--help"]) == 0
    assert "add --backend NAME before --help" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fly", "There is no command 'fly'"),
        ("fit", "Choose a backend with --backend. Installed: csm, gpt_sovits, orpheus, qwen3_tts, toy."),
        ("fit --backend matcha", "No backend 'matcha' is installed"),
        ("fit --backend toy --stage nope", "'nope' is not a stage of backend 'toy'. Choose one with --stage: hum."),
        ("fit --backend toy --model.bnis 3", "Did you mean --model.bins"),
        ("fit --backend toy --data.batch_size four", "data.batch_size"),
        ("fit -c missing.yaml", "There is no configuration file missing.yaml. `tts-train init` writes one."),
        ("fit -c lm-tny", "and no recipe of this name. Did you mean lm-tiny?"),
        ("fit --backend toy --checkpoint.every_n_steps 0", "--checkpoint.every_n_steps must be at least 1"),
        ("fit --backend toy --debug.inject boom", "kill@step=N"),
        ("prepare --backend toy --corpus x --out y", "offers no prepare"),
        ("export nowhere --format tones --out y", "There is nothing at nowhere"),
        ("synth nowhere --text hi --out y.wav", "There is nothing at nowhere"),
        ("init . --backend toy --data nowhere", "There is no corpus at nowhere"),
        ("demo --backend toy", "Backend 'toy' has no demo"),
        ("test --backend toy", "has no test data of its own"),
        ("fit --backend toy --trainer.accelerator cpu --trainer.devices 4096", "--trainer.devices 4096 starts as many"),
        ("fit --backend toy --trainer.accelerator abacus", "--trainer.accelerator cpu"),
        ("validate --run_dir nowhere", "There is no run at nowhere"),
        (f"fit --backend toy --run_dir {'x' * 300}", "cannot be used: File name too long. Give another path."),
        ("fit --backend toy --data.num_workers 1000000", "--data.num_workers takes a whole number from 0 to 1024"),
        (
            "fit --backend toy --trainer.accumulate_grad_batches 0",
            "accumulate_grad_batches takes a whole number from 1",
        ),
        (
            "fit --backend toy --trainer.val_check_interval 0",
            "--trainer.val_check_interval takes a whole number from 1",
        ),
        (
            "fit --backend toy --trainer.val_check_interval 0.0",
            "--trainer.val_check_interval takes a share of an epoch",
        ),
        ("fit --backend toy --trainer.log_every_n_steps -1", "log_every_n_steps takes a whole number from 0"),
        ("fit --backend toy --trainer.num_sanity_val_steps -7", "num_sanity_val_steps takes a whole number from -1"),
        ("fit --backend toy --trainer.gradient_clip_val -0.5", "gradient_clip_val takes a number from 0"),
        ("fit --backend toy --checkpoint.monitor=", "--checkpoint.monitor takes a figure's name"),
        ("fit --backend orpheus --data.path=", "--data.path takes a path, and '' was given"),
        ("fit --backend toy --run_dir=", "--run_dir takes a path, and '' was given"),
        ("prepare --backend orpheus --corpus x --out=", "--out takes a path, and '' was given"),
        ("fit --backend toy --trainer.num_nodes 0", "--trainer.num_nodes takes a whole number from 1 to 65535"),
        ("fit --backend toy --trainer.num_nodes 2", "nothing says where they meet. Start it with torchrun or SLURM"),
        ("fit --backend toy --trainer.accelerator cpu --trainer.devices 9999", "and this machine has"),
        ("fit --backend toy --model.lr 1e308", "--model.lr takes a finite number up to 1e+18"),
        ("fit --backend toy --data.text \0", "--data.text takes text without the character NUL"),
        ("fit -c .", ". is a folder; -c takes a recipe"),
        ("fit -c no-such-name", "no recipe of this name. Recipes: "),
        ("fit lm-tny", "Did you mean lm-tiny?"),
        ("fit .", "Type: tts-train fit -c RECIPE.yaml --run_dir ."),
        ("validate hello", "'hello' belongs to no option, and is no recipe and no run."),
        ("fit --backend toy --run-dir", "--run_dir takes a path or null, and nothing was given."),
        ("fit --backend toy --lr 3", "There is no option --lr. Did you mean --model.lr?"),
        ("fit --backend toy --model.lr abc", "--model.lr takes a number, and abc was given."),
        (
            "fit --backend toy --trainer.max_epochs many",
            "--trainer.max_epochs takes a whole number or null, and many was",
        ),
        ("fit --backend toy --checkpoint.mode up", "--checkpoint.mode takes min or max, and up was given."),
        (
            "fit --backend toy --trainer 3",
            "--trainer takes single settings, such as --trainer.accelerator, and 3 was given.",
        ),
        ("fit --backend toy --model.bins 9223372036854775808", "a whole number up to 9223372036854775807"),
        (
            "fit --backend toy --seed_everything 4294967296",
            "a whole number from 0 to 4294967295, and 4294967296 was given",
        ),
        (
            "synth nowhere --backend toy --text hi --out y.wav --seed -1",
            "--seed takes a whole number from 0 to 4294967295",
        ),
        ("eval nowhere --backend toy --data x --out y --seed 99999999999", "--seed takes a whole number from 0 to"),
        ("synth nowhere --backend toy --txt hi --out y.wav", "There is no option --txt. Did you mean --text?"),
        ("synth nowhere --backend toy --out y.wav --text=", "--text takes something to say, and '' was given"),
        ("synth nowhere --backend toy --out y.wav --text=\u200b", "--text takes something to say"),
        ("fit --backend toy --listen.sentences ['']", "--listen.sentences has a text that says nothing"),
        (
            "fit --backend toy --seed_everything null",
            "--seed_everything takes true or false or a whole number, and null",
        ),
        ("fit --backend toy --seed_everything 1.5", "--seed_everything takes true or false or a whole number, and 1.5"),
        ("fit --backend toy --trainer.val_check_interval {a:1}", "No trainer can be built"),
        (
            "fit --backend toy --trainer.callbacks nothing.Such",
            "nothing.Such cannot be imported: No module named 'noth",
        ),
        ("fit --backend toy --trainer.callbacks+ EarlyStoping", "no class EarlyStoping. Did you mean EarlyStopping?"),
        (
            "fit --backend toy --trainer.callbacks lightning.pytorch.callbacks.EarlyStoping",
            "the module lightning.pytorch.callbacks has no EarlyStoping. Did you mean EarlyStopping?",
        ),
        ("fit --backend toy --trainer.callbacks json.JSONDecoder", "json.JSONDecoder is no Callback"),
        ("fit --backend toy --trainer.callbacks+=EarlyStopping", "EarlyStopping needs the setting monitor"),
        ("fit --backend toy --trainer.logger nothing.Such", "--trainer.logger: nothing.Such cannot be imported"),
        ("fit --backend", "argument --backend: expected one argument"),
        ("report", "the following arguments are required: RUN. All options: tts-train report --help"),
        ("report x --otu y", "unrecognized arguments: --otu y. Did you mean --out?"),
        ("check --workers x y", "--workers takes a whole number, and x was given"),
        ("check y --max-dropped x", "--max_dropped takes a number, and x was given"),
        ("doctor x", "unrecognized arguments: x. All options: tts-train doctor --help"),
        ("plan --ranks x", "--ranks takes a whole number, and x was given"),
        ("formats --backnd x", "Did you mean --backend?"),
        ("plugins x", "unrecognized arguments: x"),
        ("demo", "Name what to show: --backend NAME"),
        ("init", "the following arguments are required: folder, --data"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words, said, capsys):
    assert main([word.replace("{a:1}", "{a: 1}") for word in words.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert "usage:" not in error


def test_a_job_that_slurm_started_otherwise_than_lightning_takes_is_refused(tmp_path, capsys, monkeypatch):
    job = {"NTASKS": "2", "JOB_NAME": "train", "JOB_ID": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    run_dir = tmp_path / "run"
    assert main(["fit", "--backend", "toy", "--trainer.max_steps", "1", "--run_dir", str(run_dir)]) == 2
    assert "No trainer can be built" in (said := capsys.readouterr().err)
    assert "--ntasks-per-node=2" in said
    assert not run_dir.exists()


def test_what_is_wrong_is_said_before_torch_is_imported(tmp_path):
    (tmp_path / "typo.yaml").write_text("backend: orpheus\nmodel:\n  optimzer: {lr: 1.0e-4}\n")
    commands = [
        ("fit", "--backend", "orpheus", "--model.optimizer.lr", "fast"),
        ("fit", "-c", "typo.yaml"),
        ("plan", "-c", "typo.yaml"),
        ("validate", "--backend", "gpt_sovits", "--stage", "gpt", "--trainer.max_step", "3"),
        ("synth", "x", "--backend", "orpheus", "--txt", "hi"),
        ("eval", "x", "--backend", "gpt_sovits", "--stage", "gpt", "--data", "x", "--out", "y", "--seed", "-1"),
        ("fit", "--backend", "toy", "--data.text", "${oc.env:TTS_TRAIN_NOT_SET}"),
    ]
    script = (
        "import sys; from tts_train.cli import main\n"
        f"for words in {commands!r}: assert main(words) == 2, words\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_recipe_and_a_run_are_understood_without_an_option(recipe, tmp_path):
    assert understood("fit", ["toy.yaml", "--model.lr", "-1", "--run-dir=x"]) == [
        *("-c", "toy.yaml", "--model.lr", "-1", "--run_dir=x")
    ]
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("backend: toy\n")
    expected = ["-c", str(run / "config.yaml"), "--run_dir", str(run)]
    assert understood("validate", [str(run)]) == expected
    assert understood("fit", ["--run-dir", str(run)]) == expected
    (run / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match=f"Type: tts-train fit --run_dir {run}"):
        understood("fit", [str(run / "checkpoints")])


def test_paths_of_a_run_from_another_folder_are_found(tmp_path, monkeypatch):
    there = tmp_path / "there"
    for name in ("data", "base", "tiny", "adamw", "sets/val", "run"):
        (there / name).mkdir(parents=True)
    settings = {
        "backend": "toy", "run_dir": "run", "trainer": {"max_steps": 3, "default_root_dir": "gone/x"},
        "model": {"init_from": "base", "optimizer": {"name": "adamw"}},
        "data": {"path": "data", "val_path": "sets/val", "text": "/abs/text"},
    }  # fmt: skip
    (there / "run" / "config.yaml").write_text(yaml.safe_dump(settings))
    (there / "run" / "run.json").write_text(json.dumps({"folder": str(there)}))
    monkeypatch.chdir(tmp_path)
    words = understood("fit", ["--run_dir", "there/run", "--model.lr", "1"])
    found = {"--model.init_from": "base", "--data.path": "data", "--data.val_path": "sets/val"}
    expected = [word for option, name in found.items() for word in (option, str(there / name))]
    assert sorted(words[2:-4]) == sorted(expected)
    assert words[-4:] == ["--run_dir", "there/run", "--model.lr", "1"], "what is given wins"
    (there / "run" / "config.yaml").write_text(yaml.safe_dump({**settings, "model": {"init_from": "tiny"}}))
    assert "--model.init_from" not in understood("fit", ["--run_dir", "there/run"])
    monkeypatch.chdir(there)
    assert understood("fit", ["--run_dir", "run"]) == ["-c", "run/config.yaml", "--run_dir", "run"]


def test_a_recipe_that_is_nearly_named_is_answered_with_its_file(recipe, capsys):
    assert main(["fit", "-c", str(recipe.with_suffix(".yml"))]) == 2
    assert f"Did you mean {recipe.as_posix()}?" in capsys.readouterr().err


def test_a_recipe_is_found_by_its_name():
    assert understood("fit", ["-c", "lm-qlora", "-c", "toy.yaml"]) == [
        "-c",
        str(find_recipe("orpheus", "lm-qlora")),
        "-c",
        "toy.yaml",
    ]


def test_the_unsafe_switch_of_torch_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert main(["backends"]) == 3
    assert "Unset it" in capsys.readouterr().err


def test_a_run_from_beginning_to_sound(recipe, tmp_path, capsys):
    assert (
        main(["--backend", "toy", "-c", str(recipe), "--run_dir", "run", "--checkpoint.every_n_steps", "2", "--json"])
        == 0
    )
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["step"] == 6
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["backend"], record["stage"], record["exit_reason"]) == ("toy", "hum", "finished")
    assert (tmp_path / "run" / "checkpoints" / "last").resolve().name == "step-000006"
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000

    assert main(["validate", "--run_dir", "run", "--json"]) == 0
    scored = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert scored["val/loss"] == pytest.approx(told["val/loss"])

    assert main(["export", "run", "--format", "tones", "--out", "tones", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["verified"] is True
    assert main(["synth", "run", "--text", "hello", "--out", "hello.wav"]) == 0
    assert (tmp_path / "hello.wav").stat().st_size > 8000


def test_the_same_command_continues_and_the_flag_wins_over_the_checkpoint(recipe, capsys):
    assert main(["fit", "-c", str(recipe), "--run_dir", "run"]) == 0
    assert main(["fit", "-c", str(recipe), "--run_dir", "run"]) == 0
    assert "This run is finished" in capsys.readouterr().err
    assert main(["fit", "--run_dir", "run", "--trainer.max_steps", "8", "--model.lr", "0.001"]) == 0
    assert "--model.lr: 0.01 -> 0.001" in capsys.readouterr().err
    assert main(["fit", "--run_dir", "run", "--model.bins", "32"]) == 2
    assert "model.bins: 64 -> 32" in capsys.readouterr().err


def test_a_torch_that_does_not_import_is_named(tmp_path):
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    for words, told in (
        (["doctor"], "FAIL  torch"),
        (["fit", "--backend", "toy", "--run_dir", str(tmp_path / "r")], ""),
    ):
        command = [sys.executable, "-m", "tts_train", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert told in done.stdout
        assert "does not import" in done.stdout + done.stderr
        assert "libcudart" in done.stdout + done.stderr
