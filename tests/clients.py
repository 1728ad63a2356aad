"""Programs of others in folders of their own, put before everything else; torch and the rest are shared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def client(*packages: str) -> Path:
    """Return a folder with packages, and nothing of what they require."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tts-train-tests"
    folder = cache / f"{packages[0]}-py{sys.version_info.major}{sys.version_info.minor}"
    if not (folder / "complete").exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps", "--upgrade"]
        install += ["--only-binary", ":all:", "--target", str(folder)]
        done = subprocess.run([*install, *packages], capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.skip(f"NOT TRIED: {packages} cannot be installed: {done.stderr.strip()[-300:]}")
        (folder / "complete").touch()
    return folder


def asked(folder: Path, script: Path, *words: str) -> Any:
    """Return what a client's script prints last, as JSON."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, script, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
