"""Runs commands with faults in them again and again until they are done; a program, so that its forks are clean.

Reads cases as JSON, ``[{"name": ..., "words": [...], "faults": "kill@step=3,..."}]``, and prints for each the exit
codes of the same command until it is done, and whether the last checkpoint equals that of a run without faults.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

MOST = 8
"""Times that a command is repeated."""


def run_cases(cases: list[dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """Run :func:`main` in a process of its own and return what it found by case."""
    here = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name if __name__ == "__main__" else __name__, str(folder)],
        input=json.dumps(cases), capture_output=True, text=True, cwd=here, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(cases: list[dict[str, Any]], folder: Path) -> dict[str, dict[str, Any]]:
    """Run each case without and with its faults."""
    return {case["name"]: _case(case["words"], case["faults"], folder / case["name"]) for case in cases}


def _case(words: list[str], faults: str, folder: Path) -> dict[str, Any]:
    from tests.core.run.test_continuation import last_of, same
    from tts_train.checkpoints.folder_io import load_state, verify
    from tts_train.run.directory import RunDirectory

    folder.mkdir(parents=True)
    whole, hurt = folder / "whole", folder / "hurt"
    codes = [_command([*words, "--run_dir", str(whole)], folder / "log")]
    hurts: list[int] = []
    while len(hurts) < MOST and (not hurts or hurts[-1] in (-9, 75)):
        hurts.append(_command([*words, "--run_dir", str(hurt), "--debug.inject", faults], folder / "log"))
        for step in RunDirectory(hurt).steps():
            verify(RunDirectory(hurt).step_path(step))
    left = [str(path) for path in hurt.rglob(".tmp-*")]
    keys = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "global_step")
    states = [load_state(last_of(path), *keys) for path in (whole, hurt)] if hurts[-1] == codes[0] == 0 else [0, 1]
    return {"codes": [*codes, *hurts], "same": same(*states), "left": left, "log": (folder / "log").read_text()[-3000:]}


def _command(words: list[str], log: Path) -> int:
    from tts_train.cli import main as command

    child = os.fork()
    if not child:
        code = 70
        try:
            target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(target, 1)
            os.dup2(target, 2)
            code = command(words)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin), Path(sys.argv[1]))))
