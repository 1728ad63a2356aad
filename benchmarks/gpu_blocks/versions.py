"""What a figure depends on: card, driver, versions, revision."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path

from gpu_blocks.job import ROOT, WHEELS
from gpu_blocks.record import Record

PACKAGES = ("torch", "triton", "lightning", "transformers", "peft", "bitsandbytes", "torchao", "accelerate", "numpy")
_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        found[name] = "missing"
print(json.dumps(found))
"""


def write_versions(record: Record, environment: dict[str, str]) -> None:
    """Write what this run is made with."""
    record.figure("started", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))
    record.figure("command", " ".join(["python", *sys.argv]))
    record.figure("revision", revision())
    record.figure("python", platform.python_version())
    asked = [sys.executable, "-c", _VERSIONS, *PACKAGES]
    for name, found in json.loads(_output(asked, environment) or "{}").items():
        record.figure(name, found)
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version,power.limit", "--format=csv,noheader"]
    record.figure("card, memory, driver, power limit", _output(query) or "none")
    processor = [line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if "model name" in line]
    record.figure("processor", f"{len(processor)} x {processor[0] if processor else platform.machine()}")


def revision() -> str:
    """Return the git revision, or the one that was noted when the wheels were gathered, since .git may not travel."""
    found = _output(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    noted = WHEELS / "revision.txt"
    return found or (noted.read_text(encoding="utf-8").strip() if noted.exists() else "unknown")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _output(command: list[str], environment: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
