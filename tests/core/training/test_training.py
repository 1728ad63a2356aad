"""A run from Python is the run of the command: the same bits, refusals and files, and the program around it stays."""

from __future__ import annotations

import logging
import signal
import threading
import warnings

import pytest
import yaml
from tts_train_toy.module import ToyModule

from tests.core.run.toy import digest
from tts_train import Training, plan
from tts_train.cli import main
from tts_train.errors import ConfigError, Interrupted, UnsafeFileError
from tts_train.run.directory import RunDirectory

RECIPE = {"backend": "toy", "model": {"bins": 64, "width": "${model.bins}"}, "trainer": {"accelerator": "cpu"}}
SHORT = {"max_steps": 4, "enable_progress_bar": False}
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(RECIPE))


def last(run: str) -> str:
    return digest(RunDirectory(run).step_path(RunDirectory(run).steps()[-1]))


def test_a_run_from_python_is_the_commands_and_either_continues_the_other(capsys):
    words = ["fit", "-c", "toy.yaml", "--trainer.enable_progress_bar", "false"]
    assert main([*words, "--trainer.max_steps", "4", "--run_dir", "command"]) == 0
    done = Training("toy.yaml", trainer=SHORT, run_dir="python").fit()
    assert (done.step, str(done.run_dir), done.report.name) == (4, "python", "report.html")
    assert done.figures["val/loss"] > 0
    assert last("python") == last("command")
    ours, theirs = (yaml.safe_load(RunDirectory(run).config.read_text()) for run in ("python", "command"))
    assert {**ours, "run_dir": ""} == {**theirs, "run_dir": ""}
    files = [
        sorted(str(path.relative_to(run)) for path in RunDirectory(run).path.rglob("*[!0-9]"))
        for run in ("python", "command")
    ]
    assert files[0] == files[1]

    assert main(["fit", "--run_dir", "python", "--trainer.max_steps", "6"]) == 0
    assert Training("command", {"trainer.max_steps": 6}).fit().step == 6
    assert last("python") == last("command")
    scored = Training(run_dir="command").validate()
    assert scored.step == 6
    assert scored.checkpoint.name == "step-000006"
    capsys.readouterr()
    assert main(["validate", "--run_dir", "python"]) == 0
    assert f"{scored.figures['val/loss']:.4g}" in capsys.readouterr().out


REFUSED = [
    ([], {}),
    (["--backend", "toy", "--model.bnis", "3"], {"backend": "toy", "model": {"bnis": 3}}),
    (["--backend", "toy", "--model.lr", "abc"], {"backend": "toy", "model": {"lr": "abc"}}),
    (["--backend", "toy", "--model.lr", ".inf"], {"backend": "toy", "model": {"lr": float("inf")}}),
    (["--backend", "toy", "--trainer.max_epochs", "[1, 2]"], {"backend": "toy", "trainer": {"max_epochs": [1, 2]}}),
    (["--backend", "toy", "--data.batch_size", "null"], {"backend": "toy", "data": {"batch_size": None}}),
    (["--backend", "toy", "--checkpoint.keep", "1"], {"backend": "toy", "checkpoint": {"keep": 1}}),
    (["--backend", "toy", "--debug.inject", "boom"], {"backend": "toy", "debug": {"inject": "boom"}}),
    (["-c", "toy.yaml", "--trainer.accelerator", "abacus"], {"recipe": "toy.yaml", "trainer.accelerator": "abacus"}),
    (["-c", "lm-tny"], {"recipe": "lm-tny"}),
    (["-c", "missing.yaml"], {"recipe": "missing.yaml"}),
    (["--run_dir", "nowhere"], {"run_dir": "nowhere"}),
    (["--backend", "toy", "--run_dir", "toy.yaml"], {"backend": "toy", "run_dir": "toy.yaml"}),
    (
        ["--backend", "toy", "--trainer.callbacks", '{"class_path": "EarlyStoping"}'],
        {"backend": "toy", "trainer": {"callbacks": {"class_path": "EarlyStoping"}}},
    ),
]


@pytest.mark.parametrize(
    ("words", "options"), REFUSED, ids=lambda given: " ".join(given) if isinstance(given, list) else ""
)
def test_what_the_command_refuses_is_refused_with_the_same_text(words, options, capsys):
    assert main(["fit", *words]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    recipe, settings = options.get("recipe"), {key: value for key, value in options.items() if key != "recipe"}
    with pytest.raises(ConfigError) as refused:
        Training(recipe, settings).fit()
    assert f"tts-train: {refused.value}" == told


def test_settings_may_be_a_mapping_and_objects_are_told_how_to_be_named(monkeypatch):
    stopping = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/loss"}}
    training = Training(RECIPE, trainer={**SHORT, "callbacks": [stopping]}, **{"checkpoint.keep": 2}, run_dir="mapped")
    assert training.fit().step == 4
    config = yaml.safe_load(RunDirectory("mapped").config.read_text())
    assert config["trainer"]["callbacks"][0]["class_path"] == "lightning.pytorch.callbacks.EarlyStopping"
    assert (config["model"]["width"], config["checkpoint"]["keep"]) == (64, 2)
    with pytest.raises(ConfigError, match="takes plain values, as a recipe does, and an object of class object"):
        Training(RECIPE, trainer={"callbacks": [object()]})
    with pytest.raises(ConfigError, match="print_config is for the command line"):
        Training(RECIPE, print_config=True)
    with pytest.raises(ConfigError, match="A setting's name is a text"):
        Training(RECIPE, {3: 4})
    with pytest.raises(ConfigError, match="has no test data of its own"):
        Training(RECIPE).test()
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(UnsafeFileError, match="Unset it"):
        Training(RECIPE)


def around() -> list[object]:
    """What a run could change in the program around it."""
    names = ["", "tts_train", "lightning.pytorch.utilities.rank_zero", "lightning.fabric", "bitsandbytes"]
    loggers = [logging.getLogger(name) for name in names]
    return [
        [signal.getsignal(number) for number in SIGNALS],
        [(each.level, list(each.handlers), each.propagate, each.disabled) for each in loggers],
        list(warnings.filters),
    ]


@pytest.mark.parametrize("times", [1, 3])
def test_stop_saves_the_run_and_leaves_the_program_as_it_was(times, monkeypatch):
    Training(RECIPE, trainer={**SHORT, "max_steps": 1}, run_dir="first").fit()  # imports what changes filters
    step = ToyModule.training_step

    def stopped(self, batch, batch_idx):
        if self.global_step == 2:
            for _ in range(times):
                try:
                    signal.raise_signal(signal.SIGINT)
                except Interrupted as error:
                    raised.append(error)
            if raised:
                raise raised[-1]
        return step(self, batch, batch_idx)

    raised: list[Interrupted] = []
    before = around()
    training = Training(RECIPE, trainer=SHORT, run_dir="run")
    told = r"saved at step 3. Training\('run'\).fit\(\) continues." if times == 1 else "Stopped at once by SIGINT"
    with monkeypatch.context() as patched:
        patched.setattr(ToyModule, "training_step", stopped)
        with pytest.raises(Interrupted, match=told):
            training.fit()
    assert len(raised) == times - 1
    assert around() == before
    assert RunDirectory("run").steps() == ([2, 3] if times == 1 else [2])  # 2 is an epoch's best
    assert training.fit().step == 4


def test_an_interruption_that_lightning_makes_an_exit_of_stays_one(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ToyModule, "validation_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Training(RECIPE, run_dir="run").validate()
    monkeypatch.setattr(ToyModule, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plan(RECIPE)


def test_a_run_in_a_thread_says_that_it_sees_no_signals(caplog):
    found: list[object] = []
    training = Training(RECIPE, trainer=SHORT, run_dir="threaded")
    thread = threading.Thread(target=lambda: found.append(training.fit().step))
    thread.start()
    thread.join()
    assert found == [4]
    assert "Not in the main thread: signals will not be turned into a checkpoint." in caplog.text
    Training(RECIPE, trainer=SHORT, run_dir="main").fit()
    assert last("threaded") == last("main")


def test_a_plan_is_what_the_command_reports(capsys):
    assert main(["plan", "-c", "toy.yaml", "--gpu", "1380MiB", "--json"]) == 0
    told = yaml.safe_load(capsys.readouterr().out.splitlines()[-1])
    planned = plan("toy.yaml", gpu="1380MiB")
    assert planned.fits is True
    assert yaml.safe_load(yaml.safe_dump(planned.report())) == told
    with pytest.raises(ConfigError, match="--ranks must be at least 1"):
        plan("toy.yaml", ranks=0)
