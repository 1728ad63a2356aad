"""Orpheus in 8-bit floats: it learns as without, and is exported and planned as any run."""

from __future__ import annotations

import pytest
import torch

from tests.orpheus.test_data import write_set
from tests.orpheus.test_plan import planned
from tts_train.cli import main
from tts_train.nn.float8 import Float8Options
from tts_train.report.history import History, series
from tts_train.run.checkpoint import open_checkpoint
from tts_train_orpheus.stage import OrpheusModule

FLOAT8 = ("--model.float8.recipe", "rowwise")


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The words of a run on prepared data, but for where it goes."""
    data = write_set(tmp_path_factory.mktemp("float8") / "set", [3 + n % 8 for n in range(24)])
    common = "--trainer.accelerator cpu --trainer.precision bf16-mixed --trainer.max_steps 5"
    common += " --checkpoint.every_n_steps 1 --trainer.log_every_n_steps 1 --data.max_tokens 256"
    common += " --model.optimizer.lr 0.005 --model.schedule.warmup_steps 0"
    return ["fit", "--backend", "orpheus", "--model.init_from", "tiny", "--data.path", str(data), *common.split()]


@pytest.mark.slow
def test_it_learns_as_without_and_its_export_is_a_plain_model(words, tmp_path, caplog):
    weights = {}
    for name, more in (("without", ()), ("with", FLOAT8)):
        with caplog.at_level("INFO"):
            assert main([*words, *more, "--run_dir", str(tmp_path / name)]) == 0
        weights[name] = open_checkpoint(tmp_path / name).weights()
    assert "14 linear layers multiply in 8-bit floats (rowwise). A CPU emulates them" in caplog.text
    assert weights["with"].keys() == weights["without"].keys()
    for key, expected in weights["without"].items():
        found = weights["with"][key]
        assert found.dtype == expected.dtype
        assert not torch.equal(found, expected) or found.ndim == 1, "as if nothing had been rounded"
    losses = {name: _losses(tmp_path / name) for name in weights}
    assert losses["with"] == pytest.approx(losses["without"], rel=0.01)
    assert losses["with"][-1] < losses["with"][0]
    assert main(["export", str(tmp_path / "with"), "--format", "hf", "--out", str(tmp_path / "hf")]) == 0


@pytest.mark.slow
def test_a_plan_for_a_card_needs_as_much_as_without():
    found, expected = (
        planned({"float8": Float8Options(recipe)}, {"precision": "bf16-true"}, 640, device="cuda")
        for recipe in ("rowwise", "off")
    )
    # Casts live as long as their product; what waits for backward is bfloat16 in both.
    assert expected <= found < 1.05 * expected


def test_what_gains_nothing_is_refused(words, tmp_path, capsys):
    words = [*words, *FLOAT8, "--run_dir", str(tmp_path / "run")]
    assert main([*words, "--model.method", "lora"]) == 2
    assert "--model.method qlora and lora-8bit" in capsys.readouterr().err
    assert main([*words, "--trainer.precision", "32-true"]) == 2
    assert "bf16-mixed or bf16-true, and 32-true was given" in capsys.readouterr().err
    assert OrpheusModule().float8.recipe == "off"


def _losses(run):
    return [entry.value for entry in series(History(run).entries())["train/loss"]]
