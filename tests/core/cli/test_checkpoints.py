"""Which checkpoint of a run is exported or spoken with."""

from __future__ import annotations

import pytest
import torch

from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.errors import ConfigError
from tts_train.jobs.checkpoints import choose_checkpoint
from tts_train.report.history import History
from tts_train.run.checkpoint import CARD_KEY, RunCard
from tts_train.run.directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    made = RunDirectory(tmp_path / "run")
    made.create()
    card = RunCard(backend="toy", stage="hum", config={}).as_dict()
    for step in (2, 4, 6):
        content = {"state_dict": {"a": torch.zeros(2)}, "global_step": step, CARD_KEY: card}
        DirectoryCheckpointIO().save_checkpoint(content, made.step_path(step))
        History(made.path).append({"val/loss": 1 / step, "val/sharpness": step / 2}, step=step, epoch=0)
    made.config.write_text("checkpoint: {monitor: val/sharpness}\n")
    made.link("best", 4)
    return made


def test_the_newest_is_taken_and_the_best_is_named(run, capsys):
    assert choose_checkpoint(run.path, None) == choose_checkpoint(run.path, "last") == run.path
    told = capsys.readouterr().err.splitlines()[0]
    assert told == (
        f"Checkpoint: {run.step_path(6)}, val/sharpness 3. The best by val/sharpness is step 4 with 2: --checkpoint "
        "best takes it."
    )
    (run.step_path(6) / "model.safetensors").write_bytes(b"")
    assert choose_checkpoint(run.path, None) == run.path, "which opens the newest that is whole"
    assert capsys.readouterr().err == f"Checkpoint: {run.step_path(4)}, val/sharpness 2, the best\n"


def test_the_best_or_a_step(run, capsys):
    assert choose_checkpoint(run.path, "best") == run.step_path(4)
    assert choose_checkpoint(run.path, "2") == run.step_path(2)
    for asked in ("3", "newest", "-1"):
        with pytest.raises(ConfigError, match=f"no checkpoint '{asked}'. Give .* one of: last, best, 2, 4, 6"):
            choose_checkpoint(run.path, asked)
    (run.checkpoints / "best").unlink()
    with pytest.raises(ConfigError, match=r"no checkpoint 'best'\. Give --checkpoint with one of: last, 2, 4, 6"):
        choose_checkpoint(run.path, "best")


def test_what_is_no_run_has_one(run, tmp_path, capsys):
    for source in (run.step_path(2), tmp_path / "voice.pth"):
        assert choose_checkpoint(source, None) == source
        with pytest.raises(ConfigError, match="is no run directory"):
            choose_checkpoint(source, "best")
    assert capsys.readouterr().err == ""
