"""Progress goes to stderr, as lines where nobody watches a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest
from torch.utils.data import DataLoader

from tests.core.training.small import Numbers, Tiny, fit
from tts_train.cli import main
from tts_train.progress import Pace, Progress, duration
from tts_train.training.watch.progress import TrainingProgress
from tts_train.training.watch.throughput import Throughput


def test_lines_tell_step_loss_speed_and_stdout_stays_clean(capsys):
    fit(Tiny(), [Throughput(), TrainingProgress(every_s=0.0)], enable_progress_bar=True, val=True, val_check_interval=6)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("Training: ")]
    assert lines[3].startswith("Training: 4/6 (66 %), 0 s left, loss 0.")
    assert lines[3].endswith(" tokens/s")
    assert lines[-1].startswith("Training: 6/6 (100 %), loss ")
    assert any(line.startswith("Validation at step 6: loss 0.") for line in err.splitlines())


def test_lines_come_only_when_due(capsys):
    fit(Tiny(), [TrainingProgress()], enable_progress_bar=True)
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("Training: ")]) == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_counts_the_steps_of_the_run_within_80_columns(monkeypatch, capsys):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    bar = TrainingProgress()
    fit(Tiny(), [Throughput(), bar], enable_progress_bar=True, val=True, val_check_interval=2, max_steps=12)
    shown = screen.getvalue()
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip() for line in re.split(r"[\r\n]", shown)]
    assert max(map(len, frames)) <= 80
    assert any("12/12" in frame and "loss 0." in frame and "tokens/s" in frame for frame in frames)
    assert "Validation at step 4: loss 0." in shown
    assert frames[-2].startswith("Training: 12/12 (100 %), loss 0.")
    assert capsys.readouterr().out == ""


def test_what_is_logged_stands_above_the_bar(monkeypatch, tmp_path):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--backend", "toy", "--run_dir", "run", "--trainer.max_steps", "4", "--trainer.logger", "false"]
    assert main([*words, "--listen.sentences", "0", "--debug.inject", "term@step=2"]) == 75
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").splitlines()
    assert "SIGTERM: saving at the end of this step. A second signal stops at once." in map(str.strip, lines)


def test_the_bar_is_gone_before_an_error_is_told(monkeypatch):
    class Fails(Tiny):
        def training_step(self, batch):
            raise ValueError("broken")

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    bar = TrainingProgress()
    with pytest.raises(ValueError, match="broken"):
        fit(Fails(), [bar], enable_progress_bar=True)
    assert sys.stderr is screen, "a bar that is drawn takes its place"


def test_a_validation_by_itself_names_no_step(capsys):
    trainer = fit(Tiny(), [TrainingProgress()], enable_progress_bar=True, val=True)
    capsys.readouterr()
    trainer.validate(Tiny(), DataLoader(Numbers(), batch_size=8), verbose=False)
    assert re.search(r"^Validation: loss 0\.\d+$", capsys.readouterr().err, re.MULTILINE)


def test_progress_writes_lines_to_stderr(capsys):
    with Progress("Reading audio", 3, every_s=0.0) as progress:
        for _ in range(3):
            progress.advance(note="fine")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[::2] == [
        "Reading audio: 1/3 (33 %), fine",
        "Reading audio: 3/3 (100 %), 0 s left, fine",
    ]


def test_progress_draws_a_bar_on_a_terminal(monkeypatch, capsys):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with Progress("Reading audio") as progress:
        progress.to(5, 5)
    assert "Reading audio" in screen.getvalue()
    assert "5/5" in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_pace_counts_from_where_it_began():
    now = [100.0]
    pace = Pace(done=400, every_s=10, clock=lambda: now[0])
    assert not pace.due()
    assert pace.left_s(400, 500) is None
    now[0] = 120.0
    assert pace.due()
    assert not pace.due()
    assert pace.left_s(420, 500) == 80.0
    assert pace.left_s(420, None) is None


def test_durations_read_well():
    assert [duration(s) for s in (0.4, 59, 200, 7500)] == ["0 s", "59 s", "3 min 20 s", "2 h 05 min"]
