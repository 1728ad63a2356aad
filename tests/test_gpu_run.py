"""The acceptance run for a card: what it writes, what it ends, what travels, and all of its blocks on a CPU."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
SCRIPT = BENCHMARKS / "gpu.py"
DRY_SECONDS = 1500
"""Most that the dry run may take in the tests; 3 minutes on two quiet cores."""


@pytest.fixture(autouse=True)
def _benchmarks_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def run(out: Path, work: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--work", str(work), *words]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=DRY_SECONDS, check=False
    )


def _ends(number: int) -> bool:
    """Tell whether a killed process, which the kernel may take a moment to end, is gone within 30 seconds."""
    status = Path(f"/proc/{number}/status")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if "zombie" in status.read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def test_the_head_of_the_script_names_every_block_with_its_time():
    from gpu_blocks.catalogue import ALONE, BLOCKS, BUDGETS, BY_NAME, CALLS, FIRST, LEAST, NAMES, TO_START, TO_WRITE

    head = SCRIPT.read_text().split('"""')[1]
    for block in BLOCKS:
        call = next((name for name in ("A", "B") if block.name in CALLS[name]), "alone")
        assert f"| {block.step} | {block.name} | {call} | {block.seconds} |" in head
        assert (BENCHMARKS / "gpu_blocks" / f"{block.name}.py").is_file()
    for call, names in CALLS.items():
        planned = sum(BY_NAME[name].seconds for name in names)
        assert planned + TO_START + TO_WRITE <= BUDGETS[call]
    # What no card has told yet is reached even where all before it takes as long as it may.
    before = 0
    for name in FIRST:
        assert TO_START + before + min(BY_NAME[name].seconds, LEAST) + TO_WRITE <= BUDGETS["A"], name
        before += BY_NAME[name].limit
    assert CALLS["A"][: len(FIRST)] == FIRST
    assert BUDGETS["A"] + BUDGETS["B"] + 90 <= 900 - 60, "what a rented machine's session has, its start, and some room"
    assert sorted((*CALLS["A"], *CALLS["B"], *ALONE)) == sorted(NAMES)
    for call in ("A", "B"):
        assert f"--call {call} " in head
        assert f", {BUDGETS[call]} s" in next(line for line in head.splitlines() if f"gpu.py --call {call}" in line)
    order = ", ".join(str(BY_NAME[name].step) for name in CALLS["A"])
    assert f"Call A runs steps {order}:" in head
    order = ", ".join(str(BY_NAME[name].step) for name in CALLS["B"])
    assert f"Call B runs steps {order}." in head
    assert f"(steps {', '.join(str(BY_NAME[name].step) for name in CALLS['one'])})" in head
    assert all(f"--call {call}" in head for call in CALLS)


def test_modules_are_small():
    for path in [*BENCHMARKS.glob("gpu*.py"), *(BENCHMARKS / "gpu_blocks").glob("*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path


def test_the_table_lists_what_failed_and_survives_a_line_that_was_cut_off(tmp_path):
    from gpu_blocks.record import Record
    from gpu_blocks.table import write_table

    record = Record(tmp_path, "recipes")
    record.figure("lora: tokens/s", 12345.678, "tokens/s")
    record.criterion("lora: tensors", True, 7.5, goal="within 5 %", unit="GiB")
    record.criterion("full: tensors", False, 19.0, goal="within 5 %", unit="GiB")
    record.skipped("full: profile", "needs a card")
    with record.part("broken"):
        raise ValueError("a | in it")
    record.status("out of time", seconds=12.5)
    with (tmp_path / "results.jsonl").open("a") as stream:
        stream.write('{"block": "recipes", "kind": "crit')
    assert write_table(tmp_path) == [
        "recipes: full: tensors is 19 GiB, goal within 5 %",
        "recipes: broken (ValueError: a | in it)",
        "recipes: out of time after 12.5 s",
    ]
    text = (tmp_path / "table.md").read_text()
    assert "1 criteria met, 3 failed, 1 left out" in text
    assert "| lora: tokens/s | 12,346 tokens/s |  |  |" in text
    assert "| broken |  | FAIL | ValueError: a / in it |" in text
    again = run(tmp_path, tmp_path / "work", "--report")
    assert again.returncode == 1
    assert again.stdout.strip() == text.strip()


@pytest.mark.slow
def test_a_block_that_hangs_is_ended_with_all_it_started_and_hides_no_other(tmp_path, monkeypatch):
    import gpu
    from gpu_blocks.catalogue import BY_NAME, Block

    fake = tmp_path / "fake" / "gpu_blocks"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text(
        "import json, pathlib, subprocess, sys, time\n"
        "told = json.loads(sys.argv[1])\n"
        "if told['block'] == 'start':\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    pathlib.Path(told['out'], 'child').write_text(str(child.pid))\n"
        "    time.sleep(60)\n"
        "sys.exit(told['block'] == 'ceilings')\n"
    )
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path), "--work", str(tmp_path), "--device", "cpu"])
    arguments = gpu._arguments()
    environment = {**os.environ, "PYTHONPATH": str(fake.parent)}
    begun = time.monotonic()
    gpu._run(Block(0, "start", 1, "hangs"), arguments, environment, left=6)
    assert time.monotonic() - begun < 30
    child = int((tmp_path / "child").read_text())
    assert _ends(child), f"process {child} still runs"
    gpu._run(BY_NAME["ceilings"], arguments, environment, left=60)
    gpu._run(BY_NAME["attention"], arguments, environment, left=60)
    gpu._run(BY_NAME["recipes"], arguments, environment, left=29)
    found = [(line["block"], line["kind"], line["name"]) for line in lines_of(tmp_path)]
    assert found == [
        ("start", "began", "start"),
        ("start", "status", "out of time"),
        ("ceilings", "began", "ceilings"),
        ("ceilings", "status", "failed"),
        ("attention", "began", "attention"),
        ("attention", "status", "done"),
        ("recipes", "skipped", "the whole block"),
    ]
    assert "29 s of the budget are left, and it needs about 90" in lines_of(tmp_path)[-1]["note"]


def test_a_block_that_ran_again_is_judged_by_its_last_run(tmp_path):
    from gpu_blocks.record import RUN, Record, read_results
    from gpu_blocks.table import write_table

    run_record, block, other = (Record(tmp_path, name) for name in (RUN, "recipes", "peers"))
    run_record.began()
    run_record.figure("card", "H100")
    run_record.failure("preparing", "no pip")
    other.began()
    other.criterion("faster", False)
    other.status("done", seconds=1)
    block.began()
    block.criterion("lora: tensors", False)
    assert write_table(tmp_path) == [
        "run: preparing (no pip)",
        "peers: faster",
        "recipes: did not come to its end",
        "recipes: lora: tensors",
    ]
    run_record.began()
    run_record.figure("card", "H200")
    block.began()
    block.criterion("lora: tensors", True)
    block.status("done", seconds=1)
    assert write_table(tmp_path) == ["peers: faster"]
    assert [line["value"] for line in read_results(tmp_path) if line["block"] == RUN and "value" in line] == [
        "H100",
        "H200",
    ]
    text = (tmp_path / "table.md").read_text()
    assert "1 criteria met, 1 failed, 0 left out" in text


def test_a_report_of_a_folder_without_results_says_so(tmp_path):
    told = run(tmp_path / "none", tmp_path / "work", "--report")
    assert told.returncode == 2
    assert told.stderr.strip() == f"{tmp_path / 'none'} has no results.jsonl: no run wrote there."


def test_what_travels_is_what_the_constraints_pin_and_no_more():
    from gpu_blocks.requirements import bare, lacking, pinned

    carried, pins = lacking("3.12"), pinned("3.12")
    assert {"bitsandbytes", "jsonargparse", "omegaconf", "snac", "soundfile", "soxr", "pytest", "torchao"} <= carried
    assert not carried & {"torch", "numpy", "transformers", "lightning", "peft", "triton"}
    assert carried <= set(pins)
    assert not carried & bare()


def test_a_wheel_that_is_cut_says_truly_what_is_in_it(tmp_path):
    import gpu_wheels

    wheel = tmp_path / "bitsandbytes-1.0-py3-none-any.whl"
    files = {f"bitsandbytes/libbitsandbytes_{kind}.so": kind.encode() * 100 for kind in ("cpu", "cuda130", "cuda118")}
    files |= {"bitsandbytes/__init__.py": b"", "bitsandbytes-1.0.dist-info/RECORD": b"as it was\n"}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    gpu_wheels.cut(wheel)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert names == set(files) - {"bitsandbytes/libbitsandbytes_cuda118.so"}
        record = archive.read("bitsandbytes-1.0.dist-info/RECORD").decode().splitlines()
        for line in record[:-1]:
            name, digest, size = line.split(",")
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={expected}", len(content))
    assert record[-1] == "bitsandbytes-1.0.dist-info/RECORD,,"


def test_a_plan_is_held_against_what_the_card_says(tmp_path):
    from gpu_blocks.job import Job
    from gpu_blocks.recipes import against_plan
    from gpu_blocks.watch import GIB, Measured

    job = Job(block="recipes", device="cpu", tiny=True, out=tmp_path, work=tmp_path)
    plan = {"peak_bytes": 10 * GIB, "needed_bytes": 11 * GIB}
    against_plan(job, "good", Measured(peak_bytes=int(10.4 * GIB), used_bytes=11 * GIB), plan)
    against_plan(job, "bad", Measured(peak_bytes=int(9.4 * GIB), used_bytes=11 * GIB + 1), plan)
    assert [line["ok"] for line in lines_of(tmp_path)] == [True, True, False, False]


def commands(tmp_path: Path) -> list[list[str]]:
    """Every command line that a whole run on a card types, with the sizes of a CPU."""
    from gpu_blocks import continuation, levers, recipes, references, sovits
    from gpu_blocks.fits import common_words
    from gpu_blocks.job import Job

    job = Job(block="x", device="cpu", tiny=False, out=tmp_path, work=tmp_path)
    data = dict.fromkeys(("lm", "gpt", "sovits"), "prepared")
    made = [recipes.command_words(job, each, "prepared", each.tokens) for each in recipes.RUNS]
    made += [
        recipes.command_words(job, each, "prepared", each.tokens, *words)
        for _, each, words in levers.LEVERS
        if not words or levers.known(words[0])
    ]
    made += [sovits.command_words(job, each, "prepared") for each in sovits.RUNS]
    made += [
        references.command_words(case, kind, Path("base"), Path("prepared"))
        for case in references.CASES.values()
        for kind in references.PRECISIONS
    ]
    measured = [[*words[:2], *common_words(job, tmp_path), *words[2:]] for words in made]
    return [*measured, *(continuation.command_words(job, case, data)[1:] for case in continuation.CASES.values())]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
def test_the_parser_understands_every_command(tmp_path, monkeypatch):
    from tts_train.configuration.select import select
    from tts_train.training.parser import TrainingParser

    # Modules and data are not built: bases and data sets are made on the machine with the card.
    monkeypatch.setattr(TrainingParser, "instantiate_classes", lambda self: None)
    for words in commands(tmp_path):
        selection = select(words)
        TrainingParser("fit", selection.load(), selection.rest)


@pytest.mark.slow
@pytest.mark.timeout(DRY_SECONDS + 60)
def test_every_block_runs_on_a_cpu_with_nothing_but_a_bare_machine_and_the_wheels(tmp_path):
    out, nowhere = tmp_path / "out", tmp_path / "no-wheels"
    from gpu_blocks.catalogue import NAMES

    # All of them, as one is in neither call.
    words = ("--device", "cpu", "--tiny", "--bare", "--carried", str(nowhere), "--blocks", *NAMES)
    done = run(tmp_path / "out", tmp_path / "work", *words, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(out)
    ends = {line["block"]: line["name"] for line in lines if line["kind"] == "status"}
    assert ends == dict.fromkeys(NAMES, "done")
    assert all(line["ok"] for line in lines if line["kind"] == "criterion")
    assert {line["block"] for line in lines if line["kind"] == "criterion"} >= {"start", "kernels", "continuation"}
    assert any(line["kind"] == "skipped" and line["note"] == "needs a card" for line in lines)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) <= 8
    assert max(path.stat().st_size for path in files) < 16 * 1024**2
    hidden = json.loads((tmp_path / "work" / "hidden.json").read_text())
    assert {"datasets", "gguf"} <= set(hidden["distributions"])
    print("\n".join(f"{line['block']}: {line['seconds']} s" for line in lines if line["kind"] == "status"))
