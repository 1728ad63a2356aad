"""The page about a run exists while it trains, after it was stopped, and whenever somebody asks for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tts_train.cli import main


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--backend", "toy", "--run_dir", "run", "--trainer.max_steps", "6"]
    return [*words, "--trainer.val_check_interval", "2", "--checkpoint.every_n_steps", "2", "--listen.sentences", "0"]


def test_a_stopped_run_has_a_page_that_says_so(fit, tmp_path):
    assert main([*fit, "--debug.inject", "term@step=3"]) == 75
    page = (tmp_path / "run" / "report.html").read_text()
    assert "interrupted: Stopped by SIGTERM; saved at step 3" in page
    assert "Validation loss" in page


def test_a_killed_run_has_the_page_of_its_last_validation_and_report_writes_a_newer_one(fit, tmp_path, capsys):
    child = os.fork()
    if not child:
        os._exit(main([*fit, "--debug.inject", "kill@step=5"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    page = tmp_path / "run" / "report.html"
    before = page.read_text()
    assert "not finished" in before
    assert "Validation loss" in before
    page.unlink()
    assert main(["report", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"report": str(Path("run") / "report.html")}
    assert "Validation loss" in page.read_text()
    assert main(["report", "run", "--out", "pages/mine.html"]) == 0
    assert (tmp_path / "pages" / "mine.html").read_text() == page.read_text()


def test_what_is_no_run_has_no_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for words, said in (
        (["report", "nowhere"], "nowhere is not a directory"),
        (["report", "data"], "data holds no run"),
        (["report"], "RUN"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err
    assert list(tmp_path.rglob("*.html")) == []
