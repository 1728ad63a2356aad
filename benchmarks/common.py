"""What the benchmarks share: the machine, a quiet moment, a measured child process, rows like real speech, tables."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
QUIET = 1.3
"""Load average over a minute below which the machine counts as quiet."""
MIB = 1024**2


def machine() -> dict[str, Any]:
    """Return what a figure depends on: processor, memory, versions, revision."""
    from importlib.metadata import version

    processor = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "?")
    packages = ("torch", "lightning", "transformers", "accelerate")
    return {
        "cpu": f"{processor} ({platform.machine()})",
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "revision": _revision(),
        "command": " ".join(["python", *sys.argv]),
        "started": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def wait_for_quiet(minutes: float) -> None:
    """Wait until the load average falls below QUIET, ``minutes`` at most."""
    end = time.monotonic() + 60 * minutes
    while os.getloadavg()[0] >= QUIET and time.monotonic() < end:
        time.sleep(min(30, max(1, end - time.monotonic())))


def child(script: str, task: Mapping[str, Any], *, threads: int) -> dict[str, Any]:
    """Run ``script --task JSON`` in a process of its own and return the JSON on its last line, with the load before."""
    # Here, not above: gpu.py takes tables from this module before tts-train can be imported.
    from tts_train.environment import set_variables

    load = round(os.getloadavg()[0], 2)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    set_variables(environment)
    command = [sys.executable, script, "--task", json.dumps(task)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{task} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{task} -> {done.stdout.strip().splitlines()[-1][:220]}", file=sys.stderr, flush=True)
    return {**result, "load_before": load}


def peak_mib() -> float:
    """Return the most memory that this process has had resident since it started its program, in MiB."""
    # getrusage would not do: Linux hands the peak of the process that starts a program on to the program.
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 0)


def die_first() -> None:
    """Ask the kernel to take this process, not another, when memory runs out."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def speech_rows(count: int, *, seed: int = 0) -> list[list[int]]:
    """Return Orpheus rows with lengths as real speech has: log-normal around 480 tokens, within 60 to 1,100.

    Text takes a tenth of a row; audio ids are random, each in its slot.
    """
    import numpy as np

    from tts_train_orpheus import layout
    from tts_train_orpheus.prompt import speech_row

    random = np.random.default_rng(seed)
    rows = []
    for length in np.clip(random.lognormal(np.log(480), 0.6, count), 60, 1100).astype(int):
        words = max(4, length // 10)
        frames = (length - words - 8) // layout.SLOTS
        text = [layout.BEGIN_OF_TEXT, *random.integers(0, layout.TEXT_TOKENS, words - 1)]
        offsets = layout.AUDIO_BASE + layout.CODEBOOK_SIZE * np.arange(layout.SLOTS)
        audio = (random.integers(0, layout.CODEBOOK_SIZE, (frames, layout.SLOTS)) + offsets).reshape(-1)
        rows.append(speech_row(np.array(text), audio).input_ids.tolist())
    return rows


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def save(name: str, results: Mapping[str, Any], text: str) -> None:
    """Write ``results/NAME.json`` and ``.md``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(text + "\n", encoding="utf-8")


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def _revision() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
