"""Every reference figure of the text-to-semantic stage is met, and a figure that is off or unknown fails the runner."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gpt_sovits import parity
from tests.parity import check_file

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(
    ("name", "least"),
    [("lr_schedule.json", 27), ("scaled_adam.json", 300), ("s1_reduced.json", 260)],
)
def test_every_figure_is_met(name, least):
    figures = list(check_file(parity.check, GOLDEN / name))
    assert [str(figure) for figure in figures if not figure.ok] == []
    assert len(figures) >= least


def test_the_sampler_gives_the_reference_order():
    data = json.loads((GOLDEN / "samplers.json").read_text())
    figures = list(parity.check({"s1": data["s1"], "torch": data["torch"]}))
    assert [str(figure) for figure in figures if not figure.ok] == []
    assert len(figures) == 10


@pytest.mark.slow
def test_the_full_size_network_meets_its_figures():
    figures = list(check_file(parity.check, GOLDEN / "s1_full_v2.json"))
    assert [str(figure) for figure in figures if not figure.ok] == []
    assert len(figures) >= 100


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(surprise=1.0),
        lambda data: data["get_last_lr_before_scheduler_step_k"].update({"10": 0.0020001}),
        lambda data: data["config"].update(lr_end=2e-4),
        lambda data: data["config"].pop("warmup_steps"),
        lambda data: data["config"].update(optimizer_ctor_lr=0.02),
    ],
    ids=["unknown", "other rate", "other configuration", "cannot be computed", "other constructor"],
)
def test_a_changed_file_fails(tmp_path, capsys, change):
    data = json.loads((GOLDEN / "lr_schedule.json").read_text())
    change(data)
    path = tmp_path / "lr_schedule.json"
    path.write_text(json.dumps(data))
    assert parity.main([str(path)]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_salt_changes_the_weights(tmp_path):
    data = json.loads((GOLDEN / "s1_reduced.json").read_text())
    data["salt"] = "other"
    kept = {name: value for name, value in data["float64"].items() if name.startswith(("head_equal", "per_item"))}
    path = tmp_path / "s1_reduced.json"
    path.write_text(json.dumps({**data, "float32": {}, "float64": kept}))
    figures = list(check_file(parity.check, path))
    assert not any(figure.ok for figure in figures if figure.name.endswith(".loss"))
    assert any(figure.name.endswith(".loss") for figure in figures)
