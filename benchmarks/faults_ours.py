"""Trials of what only `tts-train` promises: prepare, hostile files, bad recordings, refusals, processes that die."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faults_process import children_of, fork, last_line, run, small_disk, until, wait
from faults_sides import Ours, Side, final, started_at, steps_done, steps_of
from faults_trials import HALF, Row, again, first_half, log_of, wait_for_moment

ROOT = Path(__file__).parents[1]
_SLOW = "--data.num_workers"


def command_line(side: Ours, base: Row, folder: Path, temporary: Path, *, part: float) -> Row:
    """The same kill with real command lines, nothing forked: the proof that a fork stands for a process."""
    words = [sys.executable, "-m", "tts_train", *side.command(folder, side.plan)]
    child = subprocess.Popen(words, env=environment(temporary), stderr=subprocess.PIPE, start_new_session=True)
    wait_for_moment(side, base, folder, part, lambda condition: _while_alive(child, condition))
    child.kill()
    killed = child.wait()
    began = time.monotonic()
    done = subprocess.run(words, env=environment(temporary), capture_output=True, text=True, check=False)
    row: Row = {"killed": killed == -signal.SIGKILL, "again": done.returncode, "seconds": time.monotonic() - began}
    if done.returncode:
        return {**row, "survived": False, "said": done.stderr[-300:]}
    return {**row, **judged(side, base, folder)}


def judged(side: Ours, base: Row, folder: Path) -> Row:
    """Compare a finished run with the straight one."""
    run(lambda: side.read(folder), log=log_of(folder))
    told = final(folder)
    exact = told.get("weights") == base["weights"]
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return {
        "survived": told.get("step") == side.plan.steps,
        "exact": exact,
        "from": record["continued_from"],
        "lost": max(n for n in _before_last(folder)) - started_at(folder),
    }


def environment(temporary: Path) -> dict[str, str]:
    """What a command line of the trials sees."""
    temporary.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join([str(ROOT / "benchmarks"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}


def two_ranks(side: Ours, _base: Row, folder: Path, temporary: Path) -> Row:
    """Two processes with gloo; the second is killed; the first must end; the same command continues."""
    words = [sys.executable, "-m", "tts_train", *side.command(folder, side.plan)]
    words += ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "1"]
    child = subprocess.Popen(words, env=environment(temporary), stderr=subprocess.PIPE, start_new_session=True)
    while len(side.saved(folder)) < 3 and child.poll() is None:
        time.sleep(0.01)
    others = [n for n in children_of(child.pid) if b"tts_train" in Path(f"/proc/{n}/cmdline").read_bytes()]
    began = time.monotonic()
    os.kill(others[0], signal.SIGKILL)
    try:
        code: int | str = child.wait(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        code = "hung"
    seconds = round(time.monotonic() - began, 1)
    done = subprocess.run(words, env=environment(temporary), capture_output=True, text=True, check=False)
    return {"exit": code, "ended_after_s": seconds, "again": done.returncode, "survived": done.returncode == 0}


def worker_killed(side: Ours, base: Row, folder: Path, temporary: Path) -> Row:
    """Kill -9 a process that loads data; continue."""
    plan = side.changed(more=(_SLOW, "1"))
    child = fork(lambda: side.train(folder, plan), log=log_of(folder), temporary=temporary)
    until(lambda: steps_done(folder) >= HALF and bool(children_of(child)), child)
    for worker in children_of(child):
        os.kill(worker, signal.SIGKILL)
    code = wait(child)
    said = last_line(log_of(folder))
    return {**again(side, base, folder, temporary, plan=plan), "exit": code, "said_first": said}


def times_shuffled(side: Side, base: Row, folder: Path, temporary: Path) -> Row:
    """Give every file of a run a time up to a day before or after now; continue from the newest step all the same."""
    first_half(side, folder, temporary)
    chance = random.Random(3)
    for path in folder.rglob("*"):
        moment = time.time() + chance.uniform(-86_400, 86_400)
        os.utime(path, (moment, moment), follow_symlinks=False)
    return again(side, base, folder, temporary)


def refused(side: Ours, _base: Row, folder: Path, temporary: Path, *, words: tuple[str, ...], key: str) -> Row:
    """Continue with other data or another model; it must be refused with the difference printed."""
    first_half(side, folder, temporary)
    plan = side.changed(more=words)
    code = run(lambda: side.train(folder, plan), log=log_of(folder), temporary=temporary)
    told = log_of(folder).read_text(encoding="utf-8")
    return {"exit": code, "what": key, "printed": f"--{key}: " in told and " -> " in told}


def read_only(side: Side, base: Row, folder: Path, temporary: Path) -> Row:
    """Continue on a disk that has become read-only."""
    with small_disk(folder, 8) as mounted:
        if not mounted:
            return {"skipped": "a read-only file system cannot be mounted here (needs root)"}
        first_half(side, folder, temporary)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        code = run(lambda: side.train(folder, side.plan), log=log_of(folder), temporary=temporary)
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        return {**again(side, base, folder, temporary), "exit": code}


def prepare_killed(corpus: Path, whole: Row, folder: Path, temporary: Path, *, shards: int) -> Row:
    """Kill -9 `prepare` with 2 workers once so many shards are there; the same command again makes the same set."""
    words = prepare_words(corpus, folder)
    child = subprocess.Popen(
        words, env=environment(temporary), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    while len(list(folder.glob("data/train-*"))) < shards and child.poll() is None:
        time.sleep(0.002)
    child.kill()
    killed = child.wait() == -signal.SIGKILL
    there = len(list(folder.glob("data/train-*")))
    report = prepare(corpus, folder, temporary)
    left = [p for p in folder.rglob("*.tmp-*")] + [p for p in folder.rglob(".tmp-*")]
    return {
        "killed": killed,
        "survived": report["kept"] == whole["kept"],
        "exact": report["hash"] == whole["hash"],
        "reused": report["shards_reused"],
        "there": there,
        "leaked": sum(path.stat().st_size for path in left),
    }


def prepare_words(corpus: Path, out: Path) -> list[str]:
    """The command line of the prepare trials."""
    words = "prepare --backend orpheus --codec tiny --tokenizer tiny --device cpu --shard_rows 4 --workers 2 --json"
    return [sys.executable, "-m", "tts_train", *words.split(), "--corpus", str(corpus), "--out", str(out)]


def prepare(corpus: Path, out: Path, temporary: Path, *more: str) -> Row:
    """Prepare to the end and return the report."""
    words = [*prepare_words(corpus, out), *more]
    done = subprocess.run(words, env=environment(temporary), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"prepare ended with {done.returncode}: {done.stderr[-500:]}")
    report: Row = json.loads(done.stdout.strip().splitlines()[-1])
    return report


def corpus_of(folder: Path, count: int) -> Path:
    """Write recordings and their list."""
    from tests.orpheus.test_prepare import make_corpus

    return make_corpus(folder, count, ("tara", "leo"), seconds=1.0)


def malformed(folder: Path, temporary: Path) -> Row:
    """Every kind of bad recording with good ones between: each row must end as kept or dropped with a known reason."""
    from tests.core.corpus.malformed import cases
    from tests.core.corpus.sounds import TEXT, write_clips
    from tts_train.corpus.reasons import REASONS

    corpus = folder / "corpus"
    write_clips(corpus / "wavs", [f"good_{n}.wav" for n in range(20)])
    expected: dict[str, set[str]] = {f"good_{n}.wav": {"kept"} for n in range(20)}
    for name, data, verdicts in cases():
        (corpus / "wavs" / name).write_bytes(data)
        expected[name] = {"any"} if "any" in verdicts else {verdict.split(":")[0] for verdict in verdicts}
        if name.startswith("cut_"):
            expected[name].add("too_short")  # prepare's shortest is longer than what is left of some
    rows = [json.dumps({"audio": f"wavs/{name}", "text": f"{TEXT} {n}"}) for n, name in enumerate(expected)]
    (corpus / "list.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    report = prepare(corpus / "list.jsonl", folder / "out", temporary, "--max_dropped", "1")
    dropped = [json.loads(line) for line in (folder / "out/dropped.jsonl").read_text(encoding="utf-8").splitlines()]
    reasons = {int(row["origin"].rsplit(":", 1)[1]) - 1: row["reason"] for row in dropped}
    found = [reasons.get(n, "kept") for n in range(len(expected))]
    wrong = [
        f"{name}: {verdict}"
        for (name, wanted), verdict in zip(expected.items(), found, strict=True)
        if not ("any" in wanted or verdict in wanted)
    ]
    accounted = report["kept"] + sum(report["dropped"].values())
    known = all(reason in REASONS for reason in reasons.values())
    return {"rows": len(rows), "accounted": accounted, "in_file": len(dropped), "known": known, "wrong": wrong}


def hostile(folder: Path, temporary: Path) -> Row:
    """Open every hostile file under an audit hook, in a process whose folder holds modules that mark an import."""
    from tests.core.weights.hostile import HARMLESS, write_corpus

    marker = folder / "ran"
    write_corpus(folder / "files", marker)
    for module in ("evilmod.py", "evil.py"):
        (folder / module).write_text(f"open({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    seen = {**environment(temporary), "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}
    words = [sys.executable, "-m", "tests.core.weights.open_all", str(folder / "files")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=seen, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    refusals = [row for row in report["files"] if row["file"] != HARMLESS and row["code"] == 3]
    return {
        "files": len(report["files"]),
        "refused": len(refusals),
        "executions": len(report["events"]) + marker.exists(),
        "watch_works": bool(report["control"]),
        "slowest_s": round(max(row["seconds"] for row in report["files"]), 2),
    }


def _while_alive(child: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    while not condition() and child.poll() is None:
        time.sleep(0.002)


def _before_last(folder: Path) -> list[int]:
    words = steps_of(folder).read_text(encoding="ascii").split()
    last = max(i for i, word in enumerate(words) if word.startswith("from:"))
    return [int(word) for word in words[:last] if word.isdigit()] or [0]
