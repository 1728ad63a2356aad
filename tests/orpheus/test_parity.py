"""Every reference figure is met, and a figure that is off or unknown fails the runner."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.figures import Figure
from tests.orpheus import parity, parity_snac

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_runner_meets_every_reference_figure():
    files = sorted(str(path) for path in GOLDEN.glob("*.json"))
    assert len(files) == 8
    done = subprocess.run(
        [sys.executable, "-m", "tests.orpheus.parity", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    failures = [line for line in done.stdout.splitlines() if "FAIL" in line]
    assert done.returncode == 0, "\n".join(failures) + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" 0 FAIL")
    assert all(any(line.startswith(Path(file).name) for line in done.stdout.splitlines()) for file in files)


def run(tmp_path, name, change):
    data = json.loads((GOLDEN / name).read_text())
    change(data)
    path = tmp_path / name
    path.write_text(json.dumps(data))
    return parity.main([str(path)])


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(surprise=1.0),
        lambda data: data["cases"][0].update(surprise=[1]),
        lambda data: data["cases"][1]["input_ids"].append(1),
        lambda data: data["cases"][1]["dedup"].__setitem__(3, "7"),
        lambda data: data["cases"][0].pop("text_ids"),
        lambda data: data.clear(),
    ],
    ids=["unknown", "unknown in a case", "longer", "other id", "cannot be computed", "unknown kind"],
)
def test_a_changed_file_fails(tmp_path, capsys, change):
    assert run(tmp_path, "orpheus_sequence.json", lambda data: None) == 0
    assert run(tmp_path, "orpheus_sequence.json", change) == 1
    assert " error inf  FAIL" in capsys.readouterr().out


def test_a_salt_changes_the_weights(tmp_path, capsys):
    name = "snac_tiny_nodw_nonoise.json"
    assert run(tmp_path, name, lambda data: data.update(salt="")) == 0
    assert run(tmp_path, name, lambda data: data.update(salt="other/")) == 1
    config = json.loads((GOLDEN / name).read_text())["config"]
    plain, salted = (parity_snac.build(config, salt=salt).fingerprint for salt in ("", "other/"))
    assert plain != salted


def test_a_file_that_is_no_json_fails(tmp_path, capsys):
    path = tmp_path / "x.json"
    path.write_text("{")
    assert parity.main([str(path)]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_figures_agree_within_their_tolerance_only():
    assert Figure("a", 1.0, 1.00001, 1e-4).ok
    assert not Figure("a", 1.0, 1.001, 1e-4).ok
    assert Figure("a", 1000.0, 1000.001, relative=1e-5).ok
    assert not Figure("a", 1.0, math.nan, 1e9).ok
    assert not Figure("a", [1, 2], [1]).ok
    assert not Figure("a", 1.0, None, 1e9).ok
    assert not Figure("a", True, 1).ok
    assert Figure("a", {"x": [1, 2]}, {"x": [1, 2]}).ok


def test_codes_may_differ_in_as_many_places_as_stated():
    assert Figure("codes", [1, 2, 3], [1, 9, 3], may_differ=1).ok
    assert not Figure("codes", [1, 2, 3], [1, 9, 9], may_differ=1).ok
    assert not Figure("codes", [1, 2, 3], [1, 2], may_differ=1).ok
