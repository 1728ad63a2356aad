"""The history keeps every logged scalar and is cut back when a run continues."""

from __future__ import annotations

from tests.core.training.small import Tiny, fit
from tts_train.report.history import History, series
from tts_train.training.watch.history import MetricsHistory


def test_values_are_written_under_the_step_that_was_just_done(tmp_path):
    module = Tiny()
    fit(module, [MetricsHistory(tmp_path)], val=True, val_check_interval=3)
    found = series(History(tmp_path).entries())
    assert [entry.step for entry in found["train/loss"]] == [2, 4, 6]
    assert [entry.step for entry in found["val/loss"]] == [3, 6]
    assert [entry.value for entry in found["train/loss"]] == module.losses[1::2]
    assert set(found) == {"train/loss", "val/loss"}


def test_continuing_drops_what_will_be_done_again(tmp_path):
    trainer = fit(Tiny(), [MetricsHistory(tmp_path)], max_steps=4)
    trainer.save_checkpoint(tmp_path / "four.ckpt", weights_only=False)
    # A killed run had gone further than its last checkpoint.
    History(tmp_path).append({"train/loss": 99.0}, step=6, epoch=0)
    History(tmp_path).append({"train/loss": 99.0}, step=7, epoch=0)
    fit(Tiny(), [MetricsHistory(tmp_path)], max_steps=8, ckpt_path=tmp_path / "four.ckpt")
    losses = [entry for entry in History(tmp_path).entries() if entry.name == "train/loss"]
    assert [entry.step for entry in losses] == [2, 4, 6, 8]
    assert max(entry.value for entry in losses) < 99.0


def test_a_run_that_starts_anew_forgets_the_old_one(tmp_path):
    History(tmp_path).append({"train/loss": 99.0}, step=50, epoch=0)
    fit(Tiny(), [MetricsHistory(tmp_path)], max_steps=2)
    assert [entry.step for entry in History(tmp_path).entries()] == [2]
