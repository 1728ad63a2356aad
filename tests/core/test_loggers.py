"""Loggers: the ones that are ours write, and the absence of their package is said with the line that installs it."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tts_train.cli import main


def fit(folder, *words: str) -> int:
    base = ["fit", "--backend", "toy", "--trainer.max_steps", "4", "--run_dir", str(folder / "run")]
    return main([*base, "--trainer.logger", "tts_train.loggers.TrackioLogger", *words])


def test_trackio_keeps_the_figures(tmp_path, monkeypatch):
    pytest.importorskip("trackio", reason="the trackio extra is not installed")
    import sqlite3

    from trackio import utils

    monkeypatch.setattr(utils, "TRACKIO_DIR", tmp_path / "trackio")
    for module in [m for name, m in sys.modules.items() if name.startswith("trackio") and hasattr(m, "TRACKIO_DIR")]:
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    assert fit(tmp_path, "--trainer.logger.project", "hum") == 0
    (database,) = (tmp_path / "trackio").glob("*.db")
    rows = sqlite3.connect(database).execute("select metrics from metrics").fetchall()
    assert any("val/loss" in str(row) for row in rows)


def test_an_absent_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert fit(tmp_path) == 2
    assert "pip install 'tts-train[trackio]'" in capsys.readouterr().err


@pytest.mark.parametrize(("logger", "extra"), [("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow")])
def test_an_absent_package_of_lightnings_loggers_is_named(tmp_path, capsys, logger, extra):
    if importlib.util.find_spec(extra) is not None:
        pytest.skip(f"the {extra} extra is installed")
    words = ["fit", "--backend", "toy", "--run_dir", str(tmp_path / "run"), "--trainer.logger", logger]
    assert main(words) == 2
    assert f"pip install 'tts-train[{extra}]'" in capsys.readouterr().err
