"""A module run in two processes at once, as torchrun would start it, and runs cut back to a checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

WORLD = 2


def in_pair(module: str, folder: Path, calls: list[dict[str, Any]]) -> list[list[Any]]:
    """Run ``python -m module FOLDER CALL..`` twice; return what each rank wrote by :func:`note`.

    Starting takes 20 seconds on a slow machine, so all calls of a file of tests go to one pair.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(WORLD),
        "LOCAL_WORLD_SIZE": str(WORLD),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "tests",
    }
    command = [sys.executable, "-m", module, str(folder), *(json.dumps(call) for call in calls)]
    started = [
        subprocess.Popen(command, cwd=root, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(WORLD)
    ]
    try:
        assert [process.wait(timeout=1500) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(WORLD)]


def ranks() -> int:
    """Return how many processes there are: two in a pair."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def note(folder: Path, results: list[Any]) -> None:
    """Write down what this rank has seen so far."""
    (folder / f"rank{os.environ['RANK']}.json").write_text(json.dumps(results))


def cut_back(run: Path, to: Path, *, last: int) -> None:
    """Copy a run as it was before its checkpoint of step ``last``."""
    shutil.copytree(run, to, symlinks=True)
    shutil.rmtree(to / "checkpoints" / f"step-{last:06d}")
