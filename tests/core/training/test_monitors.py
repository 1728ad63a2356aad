"""Figures that are watched: names that cannot be right are refused before training, and late ones end no run."""

from __future__ import annotations

import logging

import pytest
from lightning.pytorch.callbacks import EarlyStopping

from tests.core.run.test_continuation import only
from tests.core.run.toy import Toy, run
from tts_train.errors import ConfigError
from tts_train.run.directory import RunDirectory

SANITY = {"num_sanity_val_steps": -1}


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level(logging.INFO, logger="tts_train")


class Plateau(Toy):
    """A rate that falls where a figure does not, whichever is named."""

    def __init__(self, watched):
        super().__init__(schedule="plateau")
        self.watched = watched

    def configure_optimizers(self):
        configured = super().configure_optimizers()
        configured["lr_scheduler"]["monitor"] = self.watched
        return configured


@pytest.mark.parametrize("name", ["val_loss", "val/los", "validation_loss", "val/accuracy"])
def test_a_figure_that_no_validation_logs_is_refused_before_the_first_step(name, tmp_path):
    said = f"watches '{name}', which is no figure of this run"
    meant = "Did you mean val/loss" if name != "val/accuracy" else "Known so far: val/loss"
    module = Toy()
    with pytest.raises(ConfigError, match=said) as caught:
        run(tmp_path / "stops", module=module, extra=[EarlyStopping(name)], **SANITY)
    assert meant in str(caught.value)
    assert module.seen == []
    with pytest.raises(ConfigError, match=f"--checkpoint.monitor {said}"):
        run(tmp_path / "best", monitor=name, **SANITY)
    with pytest.raises(ConfigError, match=f"ReduceLROnPlateau .*{said}"):
        run(tmp_path / "rate", module=Plateau(name), **SANITY)
    assert list(tmp_path.iterdir()) == [], "what was refused leaves no run behind"


def test_a_misspelt_figure_of_training_is_refused_behind_the_first_batch(tmp_path):
    module = Toy()
    with pytest.raises(ConfigError, match="Did you mean train/loss"):
        run(tmp_path, module=module, extra=[EarlyStopping("train_loss")], **SANITY)
    assert len(module.seen) == 1


def test_a_continued_run_knows_what_its_checkpoint_logged(tmp_path):
    run(tmp_path / "whole")
    path, before = only(tmp_path / "whole", 8, tmp_path / "again"), RunDirectory(tmp_path / "again").read_record()
    with pytest.raises(ConfigError, match="Did you mean val/loss"):
        run(path, extra=[EarlyStopping("val_loss")])
    assert RunDirectory(path).read_record() == before
    assert RunDirectory(path).steps() == [8]


def test_a_run_that_ends_before_its_first_validation_ends_well(tmp_path, caplog):
    run(tmp_path / "stops", extra=[EarlyStopping("val/loss", check_on_train_epoch_end=True)], max_steps=2)
    run(tmp_path / "rate", module=Plateau("val/loss"), max_epochs=1, limit_val_batches=0, monitor=None)
    run(tmp_path / "off", extra=[EarlyStopping("val/loss")], max_epochs=1, limit_val_batches=0)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.split(" ")[0] for line in said] == ["EarlyStopping", "ReduceLROnPlateau", "EarlyStopping"]
    assert "never acted: val/loss was not logged before the run ended" in said[0]
    assert "this run has no validation (--trainer.limit_val_batches 0)" in said[1]


def test_a_name_that_only_the_first_validation_shows_to_be_wrong_costs_no_training(tmp_path, caplog):
    module = run(tmp_path, extra=[EarlyStopping("val_loss")], max_epochs=2)
    assert len(module.seen) == 10
    assert caplog.text.count("'val_loss', which is no figure of this run. Did you mean val/loss?") == 1
    assert "never acted" not in caplog.text


def test_a_right_name_still_stops(tmp_path):
    module = run(tmp_path, extra=[EarlyStopping("val/loss", patience=1, min_delta=100.0)], max_epochs=4, **SANITY)
    assert len(module.seen) == 10
