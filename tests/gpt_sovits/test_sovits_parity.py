"""Every reference figure of the stage ``sovits`` is met, and a figure that is off or unknown fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gpt_sovits import parity_sovits

GOLDEN = Path(__file__).parent / "golden"


def data(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def failing(contents):
    figures = list(parity_sovits.check(contents))
    return len(figures), [str(figure) for figure in figures if not figure.ok]


@pytest.mark.parametrize(("name", "count"), [("mel", 86), ("alpha_mix", 15), ("slicer", 2), ("cfm_reduced", 26)])
def test_every_figure_of_a_small_file_is_met(name, count):
    assert failing(data(name)) == (count, [])


def test_the_sampler_gives_the_reference_batches():
    assert failing({"s2": data("samplers")["s2"]}) == (15, [])


def test_the_unfrozen_codebook_meets_its_figures():
    assert failing({**data("s2_reduced"), "cases": {}}) == (54, [])


@pytest.mark.slow
def test_a_reduced_network_meets_its_figures():
    reduced = data("s2_reduced")
    case = {name: value for name, value in reduced["cases"]["v2"].items() if name != "float64"}
    count, wrong = failing({"salt": "", **{k: reduced[k] for k in ("frames", "text_lens")}, "cases": {"v2": case}})
    assert wrong == []
    assert count >= 80


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "least"), [("s2_reduced", 490), ("s2_full", 200)])
def test_every_network_meets_its_figures(name, least):
    count, wrong = failing(data(name))
    assert wrong == []
    assert count >= least


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mel", lambda d: d["float32"].update(surprise=1.0)),
        ("mel", lambda d: d["float32"]["mel128_direct"].update(sum=0.0)),
        ("mel", lambda d: d.update(salt="other")),
        ("slicer", lambda d: d["cases"][0]["params"].update(threshold=-80)),
        ("alpha_mix", lambda d: d["wav32k_int16"].update(sum=1)),
        ("cfm_reduced", lambda d: d["float64"]["flow_matching_branch"].update(loss=1.68)),
    ],
)
def test_a_changed_file_fails(name, change):
    contents = data(name)
    known = len(failing(contents)[1])
    change(contents)
    assert len(failing(contents)[1]) > known
