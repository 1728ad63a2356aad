"""Loggers: an absent package is named with the line that installs it, a removed logger with what replaces it."""

from __future__ import annotations

import importlib.util

import pytest

from tts_train.cli import main


def fit(folder, *words: str) -> int:
    return main(["fit", "--backend", "toy", "--run_dir", str(folder / "run"), *words])


@pytest.mark.parametrize("named", ["word", "recipe", "settings"])
def test_the_removed_trackio_logger_is_answered_with_what_to_type(tmp_path, capsys, named):
    name = "tts_train.loggers.TrackioLogger"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"trainer:\n  logger:\n    class_path: {name}\n    init_args: {{project: hum}}\n", encoding="utf-8"
    )
    words = {
        "word": ["--trainer.logger", name],
        "recipe": ["-c", str(recipe)],
        "settings": ["--trainer.logger", name, "--trainer.logger.project", "hum"],
    }
    assert fit(tmp_path, *words[named]) == 2
    said = capsys.readouterr().err
    assert "Leave out --trainer.logger" in said
    assert "trackio.import_tf_events('RUN/logs', 'PROJECT')" in said


@pytest.mark.parametrize(("logger", "extra"), [("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow")])
def test_an_absent_package_of_lightnings_loggers_is_named(tmp_path, capsys, logger, extra):
    if importlib.util.find_spec(extra) is not None:
        pytest.skip(f"the {extra} extra is installed")
    assert fit(tmp_path, "--trainer.logger", logger) == 2
    assert f"pip install 'tts-train[{extra}]'" in capsys.readouterr().err
