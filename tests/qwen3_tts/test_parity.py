"""Every reference figure is met, and a figure that is off or unknown fails."""

from __future__ import annotations

import json
import pkgutil
from pathlib import Path

import pytest

from tests.qwen3_tts import parity

GOLDEN = Path(__file__).parent / "golden"
COUNTS = {"codec_reduced": 226, "codec_window": 42, "codec_full": 102, "export": 9}
SLOW = ("codec_full",)


def data(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def failing(contents):
    figures = list(parity.check(contents))
    return len(figures), [str(figure) for figure in figures if not figure.ok]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in COUNTS])
def test_every_figure_of_a_file_is_met(name):
    assert failing(data(name)) == (COUNTS[name], [])


def only(name, kind, part, case):
    """Return a file with one case alone: the others would take time and show nothing."""
    contents = data(name)
    kept = {field: value for field, value in contents.items() if field not in ("float32", "float64") or field == kind}
    kept.pop("codes_same_in_both_types", None)
    return {**kept, kind: {part: {case: contents[kind][part][case]}}}


@pytest.mark.parametrize(
    ("part", "case", "change"),
    [
        ("encode", "a", lambda case: case.update(surprise=1.0)),
        ("encode", "a", lambda case: case["codes"][3].__setitem__(0, 1)),
        ("encode", "a", lambda case: case["latent"].update(sum=0.0)),
        ("encode", "a", lambda case: case["relative_gaps_by_codebook"][0].__setitem__(0, 0.5)),
        ("decode", "padded_batch", lambda case: case["waves"][1].update(sumsq=1.0)),
        ("decode", "padded_batch", lambda case: case.update(surprise=[1])),
    ],
)
def test_a_changed_codec_figure_fails(part, case, change):
    contents = only("codec_reduced", "float32", part, case)
    assert failing(contents)[1] == []
    change(contents["float32"][part][case])
    assert len(failing(contents)[1]) == 1


def test_other_weights_fail():
    assert failing({**only("codec_reduced", "float32", "decode", "padded_batch"), "salt": "other"})[1]


def test_a_file_of_no_known_kind_fails():
    assert failing({"salt": "", "surprises": {}})[1]


def test_every_reference_file_is_of_one_known_kind():
    for path in GOLDEN.glob("*.json"):
        contents = json.loads(path.read_text())
        assert sum(fits(contents) for fits, _ in parity.KINDS) == 1, path.name
        assert callable(
            pkgutil.resolve_name(f"tests.qwen3_tts.{next(w for fits, w in parity.KINDS if fits(contents))}")
        )


def test_an_export_of_another_model_is_told():
    contents = data("export")
    contents["config_after"]["talker_config"]["num_hidden_layers"] = 3
    contents["embedding_row_written"] = 3001
    _, wrong = failing(contents)
    assert [line.split()[0] for line in wrong] == ["embedding_row_written", "config_after"]
