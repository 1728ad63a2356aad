"""A run whose blocks lose the card, hang or are interrupted: what is done again, what counts, what is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "gpu.py"


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def fake_blocks(folder: Path, text: str) -> dict[str, str]:
    """Write a package that stands where the blocks do, and return the environment in which it is found."""
    package = folder / "fake" / "gpu_blocks"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import json, pathlib, sys\ntold = json.loads(sys.argv[1])\n" + text)
    return {**os.environ, "PYTHONPATH": str(package.parent)}


def test_what_is_left_of_a_block_whose_process_was_lost_is_done_by_another(tmp_path, monkeypatch):
    import gpu
    from gpu_blocks.catalogue import BY_NAME

    record = BENCHMARKS / "gpu_blocks" / "record.py"
    environment = fake_blocks(
        tmp_path,
        f"exec(pathlib.Path({str(record)!r}).read_text())\n"
        "def check():\n"
        "    raise RuntimeError('an illegal memory access was encountered')\n"
        "record = Record(pathlib.Path(told['out']), told['block'], check=check)\n"
        "for name in 'abcde':\n"
        "    if name in told['finished']:\n"
        "        continue\n"
        "    with record.part(name, limit=0.2 if name == 'd' else None):\n"
        "        if name == 'd':\n"
        "            threading.Event().wait()\n"
        "        if name in 'bc':\n"
        "            raise RuntimeError(name)\n"
        "sys.exit(0)\n",
    )
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), "--work", str(tmp_path), "--device", "cpu"])
    arguments = gpu._arguments()
    gpu._run(BY_NAME["recipes"], arguments, environment, left=300)
    lines = lines_of(tmp_path)
    assert [line["name"] for line in lines if line["kind"] == "time"] == list("abcde")
    failures = [(line["name"], line["note"]) for line in lines if line["kind"] == "failure"]
    lost = "the device is lost after it: an illegal memory access was encountered"
    assert failures == [
        ("b", "RuntimeError: b"),
        ("b", lost),
        ("c", "RuntimeError: c"),
        ("c", lost),
        ("d", "not done after 0.2 s"),
    ]
    assert [line["kind"] for line in lines].count("began") == 1
    assert (lines[-1]["kind"], lines[-1]["name"]) == ("status", "done")
    # A block that does not skip what it has done would meet the same part again: it is not started again.
    gpu._run(BY_NAME["sovits"], arguments, environment, left=300)
    ended = [line["name"] for line in lines_of(tmp_path) if line["block"] == "sovits" and line["kind"] == "time"]
    assert ended == ["a", "b"]
    assert lines_of(tmp_path)[-1]["name"] == "failed"


def test_a_block_that_is_lost_again_and_again_without_coming_further_is_given_up(tmp_path, monkeypatch):
    import gpu
    from gpu_blocks.catalogue import BY_NAME
    from gpu_blocks.record import LOST

    environment = fake_blocks(tmp_path, f"print('started')\nsys.exit({LOST})\n")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), "--work", str(tmp_path), "--device", "cpu"])
    gpu._run(BY_NAME["recipes"], gpu._arguments(), environment, left=300)
    assert (tmp_path / "log.txt").read_text() == "started\n"
    assert lines_of(tmp_path)[-1]["name"] == "failed"


def test_recipes_that_are_finished_are_not_run_again(tmp_path):
    from gpu_blocks import recipes
    from gpu_blocks.catalogue import BLOCKS
    from gpu_blocks.job import Job

    names = [each.name for each in recipes.RUNS]
    job = Job(block="recipes", device="cpu", tiny=True, out=tmp_path, work=tmp_path, finished=names)
    recipes.run(job)
    assert not (tmp_path / "results.jsonl").exists()
    for block in BLOCKS:
        source = (BENCHMARKS / "gpu_blocks" / f"{block.name}.py").read_text()
        assert ("job.finished" in source) == block.resumes, block.name


def test_an_interrupted_run_fails_and_names_what_it_did_not_reach(tmp_path):
    words = ["--device", "cpu", "--tiny", "--blocks", "start", "ceilings", "attention"]
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--work", str(tmp_path / "work"), *words]
    running = subprocess.Popen([*command, "--carried", str(tmp_path / "none")], stdout=subprocess.PIPE, text=True)
    results = tmp_path / "results.jsonl"
    while running.poll() is None and not (results.exists() and '"block": "start"' in results.read_text()):
        time.sleep(0.05)
    running.terminate()
    told, _ = running.communicate(timeout=60)
    assert running.returncode == 1
    lines = lines_of(tmp_path)
    began = [line["block"] for line in lines if line["kind"] == "began"][1:]
    assert f"* {began[-1]}: did not come to its end" in told
    skipped = [line for line in lines if line["kind"] == "skipped" and line["name"] == "the whole block"]
    assert [line["block"] for line in skipped] == ["start", "ceilings", "attention"][len(began) :]
    assert all("interrupted after" in line["note"] for line in skipped)
    again = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--report"]
    assert subprocess.run(again, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "FILE"], "--out {file} cannot be made a folder"),
        (["--work", "FILE"], "--work {file} cannot be made a folder"),
        (["--budget", "-4"], "--budget is a number of seconds above 0, and -4 was given."),
    ],
)
def test_what_cannot_be_used_is_named_before_anything_starts(words, said, tmp_path):
    file = tmp_path / "file"
    file.touch()
    given = {"--out": str(tmp_path / "out"), "--work": str(tmp_path / "work")}
    given |= dict([[word if word != "FILE" else str(file) for word in words]])
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", "--blocks", "start"]
    done = subprocess.run(
        [*command, *(word for pair in given.items() for word in pair)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(said.format(file=file))
    assert len(done.stderr.splitlines()) == 1
