"""Exports in the clients that people run them with: greedy speech is the same as in the trained network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.orpheus.learned_runs import TEXTS, learned_rows, write_learned_run
from tests.orpheus.older_client import speak
from tests.orpheus.trained_runs import write_run
from tts_train_orpheus.export.adapter import MergedExport
from tts_train_orpheus.export.gguf import GgufExport
from tts_train_orpheus.export.hf import HfExport
from tts_train_orpheus.layout import CUSTOM_BASE

pytestmark = pytest.mark.slow
torch.set_num_threads(1)

OLDER = ("transformers==4.57.6", "tokenizers==0.22.2", "huggingface_hub==0.36.2")
"""The last release of transformers 4, and the two packages of which it needs older ones than ours."""
LLAMA_CPP = ("xllamacpp==2026.10.11549",)
"""llama.cpp in a wheel."""


def client(*packages: str) -> Path:
    """Return a folder with packages, to be put before everything else; torch and the rest are shared."""
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


def asked(folder: Path, script: str, *words: str) -> Any:
    """Return what a client's script prints last, as JSON."""
    command = [sys.executable, Path(__file__).with_name(script), *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A trained run, the same as ``hf``, and adapters over that as ``merged``."""
    place = tmp_path_factory.mktemp("clients")
    write_learned_run(place / "run")
    HfExport(source=place / "run", out=place / "hf", dtype="fp32").run()
    write_run(place / "lora", init_from=str(place / "hf"), method="lora")
    MergedExport(source=place / "lora", out=place / "merged", dtype="fp32").run()
    return place


def test_transformers_4_and_5_say_the_same(exported):
    older, folders = client(*OLDER), [exported / "hf", exported / "merged"]
    newer = [speak(folder, TEXTS) for folder in folders]
    learned = [row.input_ids[row.prompt : -1].tolist() for row in learned_rows()]
    assert newer[0] == learned
    assert newer[1] != learned
    version, said = asked(older, "older_client.py", *TEXTS, "--", *map(str, folders))
    assert version.startswith("4.57.")
    assert said == newer


def test_llama_cpp_says_the_same(exported):
    llama, file = client(*LLAMA_CPP), exported / "voice.gguf"
    GgufExport(source=exported / "run", out=file).run()
    rows = learned_rows()
    prompts = json.dumps([row.input_ids[: row.prompt].tolist() for row in rows])
    wanted = ["".join(f"<custom_token_{i - CUSTOM_BASE}>" for i in row.input_ids[row.prompt : -1]) for row in rows]
    assert asked(llama, "llama_client.py", prompts, str(file)) == [wanted]
