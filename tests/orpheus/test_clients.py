"""Exports in the clients that people run them with: greedy speech is the same as in the trained network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.orpheus.learned_runs import TEXTS, learned_rows, write_learned_run
from tests.orpheus.older_client import speak
from tests.orpheus.trained_runs import write_run
from tts_train_orpheus.export.adapter import MergedExport
from tts_train_orpheus.export.hf import HfExport

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

OLDER = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.2")
"""The last release of transformers 4, and the two packages of which it needs older ones than ours."""


@pytest.fixture(scope="module")
def older():
    """A folder with transformers 4, to be put before everything else; torch and the rest are shared."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tts-train-tests"
    folder = cache / "-".join((OLDER[0], f"py{sys.version_info.major}{sys.version_info.minor}"))
    if not (folder / "complete").exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps", "--upgrade"]
        done = subprocess.run([*install, "--target", folder, *OLDER], capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.skip(f"NOT TRIED in transformers 4: {OLDER} cannot be installed: {done.stderr.strip()[-300:]}")
        (folder / "complete").touch()
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A trained run as ``hf``, and adapters over that as ``merged``."""
    place = tmp_path_factory.mktemp("clients")
    write_learned_run(place / "run")
    HfExport(source=place / "run", out=place / "hf", dtype="fp32").run()
    write_run(place / "lora", init_from=str(place / "hf"), method="lora")
    MergedExport(source=place / "lora", out=place / "merged", dtype="fp32").run()
    return [place / "hf", place / "merged"]


def test_transformers_4_and_5_say_the_same(exported, older):
    newer = [speak(folder, TEXTS) for folder in exported]
    learned = [row.input_ids[row.prompt : -1].tolist() for row in learned_rows()]
    assert newer[0] == learned
    assert newer[1] != learned
    command = [sys.executable, Path(__file__).with_name("older_client.py"), *TEXTS, "--", *exported]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(older), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    version, said = json.loads(done.stdout.splitlines()[-1])
    assert version.startswith("4.57.")
    assert said == newer
