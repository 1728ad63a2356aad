"""What a backend imports from tts-train: the names are there, light where they can be, and documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from tts_train import contract

ROOT = Path(__file__).parents[2]


def test_every_public_name_is_there_and_known_to_type_checkers():
    tree = ast.parse(Path(contract.__file__).read_text(encoding="utf-8"))
    found = {
        name.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert sorted(found) == sorted(contract.__all__) == sorted(contract._HOME)
    assert found == contract._HOME
    for name in contract.__all__:
        assert getattr(contract, name) is not None


def test_describing_a_backend_loads_no_torch():
    script = (
        "import sys; from tts_train.contract import Backend, Demo, ExportJob, Format, Metric, PrepareJob, Stage,"
        "SynthJob, TTSTrainError, hookimpl; heavy = {'torch', 'lightning', 'transformers'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_every_public_name_is_documented():
    guide = (ROOT / "docs" / "writing-a-backend.md").read_text(encoding="utf-8")
    listed = {word for line in guide.split("## The contract")[1].splitlines() for word in line.split("`")[1::2]}
    missing = sorted(set(contract.__all__) - listed)
    assert not missing, f"docs/writing-a-backend.md does not say what these are for: {missing}"
