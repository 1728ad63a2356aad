"""What torch is told before it starts, and that cuDNN's attention is off on every way in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import common
from tts_train.environment import EXPANDABLE, set_variables

ROOT = Path(__file__).parents[2]
NAMES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG", "TORCH_CUDNN_SDPA_DEPRIORITIZED")
ATTENDS = re.compile(r"scaled_dot_product_attention\(|import .*\b(attend|causal_attention|decode_attention)\b")
SHOW = f"import json, os, sys; print(json.dumps([{{n: os.environ.get(n) for n in {NAMES!r}}}, 'torch' in sys.modules]))"

# Imports each module in a process of its own that has torch already, and prints those that leave cuDNN's attention on.
# Other people's packages are imported once, before: they leave it as it was.
FORKS = """
import gc, importlib, os, sys, torch
gc.disable()
import lightning.pytorch, peft, transformers.models.llama.modeling_llama
assert torch.backends.cuda.cudnn_sdp_enabled()
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        importlib.import_module(name)
        os._exit(torch.backends.cuda.cudnn_sdp_enabled())
    if os.waitpid(child, 0)[1]:
        print(name)
"""


def python(script: str, *words: str, **changes: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | changes
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout


@pytest.mark.parametrize("way_in", ["import tts_train", "from tts_train.cli import main; main(['--version'])"])
def test_variables_are_set_before_torch_is_imported(way_in):
    found, imported = json.loads(python(f"{way_in}\n{SHOW}").splitlines()[-1])
    assert not imported
    assert found == {
        "PYTORCH_ALLOC_CONF": EXPANDABLE,
        "PYTORCH_CUDA_ALLOC_CONF": None,
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "TORCH_CUDNN_SDPA_DEPRIORITIZED": "1",
    }


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_what_the_user_has_set_stays(name):
    given = {name: "max_split_size_mb:128", "CUBLAS_WORKSPACE_CONFIG": ":16:8", "TORCH_CUDNN_SDPA_DEPRIORITIZED": "0"}
    found, _ = json.loads(python(f"import tts_train\n{SHOW}", **given))
    assert {key: value for key, value in found.items() if value is not None} == given


@pytest.mark.slow
def test_no_module_that_attends_leaves_cudnn_on():
    """Whichever of them a library user imports first."""
    files = [*ROOT.glob("core/tts_train/**/*.py"), *ROOT.glob("plugins/*/tts_train_*/**/*.py")]
    attends = [path for path in files if ATTENDS.search(path.read_text(encoding="utf-8"))]
    assert len(attends) > 5
    roots = [ROOT / "core", *ROOT.glob("plugins/*")]
    named = [path.with_suffix("").relative_to(root) for path in attends for root in roots if root in path.parents]
    modules = [".".join(name.parts) for name in named]
    assert python(FORKS, "tts_train.training.session", "tts_train.training.run", *modules) == ""


def test_segments_expand_where_torch_has_them():
    for platform, wanted in (("linux", EXPANDABLE), ("win32", None), ("darwin", None)):
        found: dict[str, str] = {}
        set_variables(found, platform=platform)
        assert found.get("PYTORCH_ALLOC_CONF") == wanted
        assert found["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_measured_processes_get_the_same(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    wanted: dict[str, str] = {}
    set_variables(wanted)
    script = ROOT / "tests" / "core" / "show_environment.py"
    shown = common.child(str(script), {"names": list(NAMES)}, threads=1)
    assert {name: shown[name] for name in NAMES if shown[name] is not None} == wanted
