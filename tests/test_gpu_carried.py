"""What travels to a machine with a card and how it is used there: a bare Python, wheels, references and plans."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
SCRIPT = BENCHMARKS / "gpu.py"
BARE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
"""An environment in which tts-train is only where it is installed; with ``-S`` nothing is."""


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def wheel(folder: Path, name: str, *, tag: str = "py3-none-any", text: str = "") -> Path:
    """Write a wheel of one module by hand."""
    info = f"{name}-1.0.dist-info"
    files = {f"{name}.py": text, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    record = []
    for place, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{place},sha256={digest},{len(content.encode())}")
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    path = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, content in files.items():
            archive.writestr(place, content)
    return path


def test_the_script_starts_with_the_standard_library_alone():
    subprocess.run([sys.executable, "-S", str(SCRIPT), "--help"], env=BARE, capture_output=True, check=True)


def test_without_wheels_a_run_on_a_card_is_refused_before_it_begins(tmp_path):
    command = [sys.executable, "-S", str(SCRIPT), "--out", str(tmp_path / "out"), "--carried", str(tmp_path)]
    done = subprocess.run(command, env=BARE, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "bitsandbytes" in done.stderr
    assert "make gpu-wheels" in done.stderr
    assert f"--python-version {sys.version_info[0]}.{sys.version_info[1]}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_missing_is_what_neither_this_python_nor_a_wheel_has(tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); from pathlib import Path;"
        f"from gpu_blocks.environment import missing; print(*missing(Path({str(tmp_path)!r})))"
    )

    def missing(*options: str) -> set[str]:
        command = [sys.executable, *options, "-c", script]
        return set(subprocess.run(command, env=BARE, capture_output=True, text=True, check=True).stdout.split())

    assert missing() == set()
    assert {"torch", "omegaconf", "soxr", "pytest-timeout"} <= missing("-S")
    wheel(tmp_path, "omegaconf")
    wheel(tmp_path, "soxr", tag="cp27-cp27m-linux_x86_64")
    assert "omegaconf" not in missing("-S")
    assert "soxr" in missing("-S")


def test_carried_wheels_are_installed_and_seen_by_the_blocks_alone(tmp_path):
    from gpu_blocks.environment import carried_names, prepare

    wheel(tmp_path, "carried_along", text="VALUE = 17\n")
    wheel(tmp_path, "for_another_python", tag="cp27-cp27m-linux_x86_64")
    assert carried_names(tmp_path) == {"carried-along"}
    for _ in range(2):  # the second call finds it installed
        environment = prepare(tmp_path / "work", carried=tmp_path)
    script = (
        "import carried_along, importlib.util as util, importlib.metadata as metadata;"
        "print(carried_along.VALUE, util.find_spec('for_another_python'), metadata.version('carried-along'),"
        "{'gpt_sovits', 'orpheus'} <= set(metadata.entry_points(group='tts_train.backends').names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.strip() == "17 None 1.0 True"
    with pytest.raises(ModuleNotFoundError):
        __import__("carried_along")


def test_wheels_that_cannot_be_installed_are_a_failure_in_one_line(tmp_path):
    out, work = tmp_path / "out", tmp_path / "work"
    (tmp_path / "broken-1.0-py3-none-any.whl").write_bytes(b"no archive")
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--work", str(work), "--carried", str(tmp_path)]
    done = subprocess.run(
        [*command, "--device", "cpu", "--blocks", "start", "peers"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "* run: preparing (" in done.stdout
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    failure = next(line for line in lines if line["kind"] == "failure")
    assert "could not be installed" in failure["note"]
    assert "broken-1.0" in failure["note"]
    assert "\n" not in failure["note"]
    assert [line["block"] for line in lines if line["kind"] == "skipped"] == ["start", "peers"]


def test_an_image_without_pip_is_named_as_the_cause(tmp_path):
    wheel(tmp_path, "carried_along")
    script = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); from pathlib import Path;"
        "from gpu_blocks.environment import PrepareError, prepare\n"
        f"try: prepare(Path({str(tmp_path / 'work')!r}), carried=Path({str(tmp_path)!r}))\n"
        "except PrepareError as error: print(error)"
    )
    # A real interpreter without pip: an environment that is made without it.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    command = [str(tmp_path / "bare" / "bin" / "python"), "-c", script]
    done = subprocess.run(command, env=BARE, capture_output=True, text=True, check=True)
    assert "has no pip" in done.stdout


def test_the_size_that_travels_is_that_of_the_working_tree(tmp_path):
    from gpu_wheels import tree_bytes

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True)

    git("init")
    (tmp_path / ".gitignore").write_text("left-out\n")
    for name, size in (("kept", 10), ("gone", 1000), ("changed", 100)):
        (tmp_path / name).write_bytes(b"x" * size)
    git("add", ".")
    (tmp_path / "gone").unlink()
    (tmp_path / "changed").write_bytes(b"x" * 3000)
    (tmp_path / "new").write_bytes(b"x" * 200)
    (tmp_path / "left-out").write_bytes(b"x" * 9999)
    assert tree_bytes(tmp_path) == len("left-out\n") + 10 + 3000 + 200


@pytest.mark.slow
def test_plans_are_read_as_they_are_written(tmp_path, monkeypatch):
    from gpu_blocks import plans, recipes, sovits
    from gpu_blocks.job import Job
    from gpu_blocks.watch import Measured

    monkeypatch.setattr(recipes, "RUNS", recipes.RUNS[:1])
    monkeypatch.setattr(sovits, "RUNS", sovits.RUNS[:1])
    plans.write_plans(tmp_path)
    job = Job(block="recipes", device="cpu", tiny=False, out=tmp_path, work=tmp_path, carried=tmp_path)
    names = [recipes.RUNS[0].name, sovits.RUNS[0].recipe]
    assert list(job.plans) == names
    for name in names:
        plan = job.plans[name]
        as_planned = Measured(peak_bytes=plan["peak_bytes"], used_bytes=plan["needed_bytes"])
        recipes.against_plan(job, name, as_planned, plan)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["ok"] for line in lines] == [True] * 4


@pytest.mark.slow
def test_a_card_is_held_against_the_references_that_were_carried(tmp_path, monkeypatch):
    from gpu_blocks import references
    from gpu_blocks.cpu_against_gpu import DRY

    carried = tmp_path / "carried"
    carried.mkdir()
    few = {name: replace(references.CASES[name], steps=2, kinds=("float32",)) for name in DRY}
    monkeypatch.setattr(references, "CASES", few)
    references.write_references(carried)
    wheel(carried, "carried_along")

    def run(out: Path) -> tuple[int, list[dict]]:
        command = [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", "--blocks", "cpu_against_gpu"]
        command += ["--out", str(out), "--work", str(tmp_path / "work"), "--carried", str(carried)]
        code = subprocess.run(command, capture_output=True, text=True, check=False).returncode
        return code, [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]

    code, lines = run(tmp_path / "out")
    judged = {line["name"]: line["ok"] for line in lines if line["kind"] == "criterion"}
    assert (code, judged) == (0, {f"{name}, float32: losses": True for name in DRY})
    assert "references" in {line["name"] for line in lines if line["kind"] == "figure"}
    assert not any(line["name"] == "carried references" for line in lines)

    told = json.loads((carried / "references.json").read_text())
    wrong = f"{DRY[0]}, float32"
    for batch in told["losses"][wrong]:
        batch.update({name: value + 0.1 for name, value in batch.items()})
    (carried / "references.json").write_text(json.dumps(told))
    code, lines = run(tmp_path / "again")
    judged = {line["name"]: line["ok"] for line in lines if line["kind"] == "criterion"}
    assert code == 1
    assert judged == {f"{name}, float32: losses": name != DRY[0] for name in DRY}
