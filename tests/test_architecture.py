"""Who may import whom, and which commands stay light; the rules of docs/architecture.md as tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "tts_train"
PLUGINS = {path.name: path for path in ROOT.glob("plugins/*/tts_train_*")}
HEAVY = {"torch", "lightning", "transformers", "peft", "snac", "torchaudio"}


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@pytest.mark.parametrize("path", files(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_core_names_no_backend(path):
    text = path.read_text(encoding="utf-8").lower()
    for name in ("orpheus", "sovits", "snac_24khz"):
        assert name not in text, f"{path} names {name}: that belongs into the plugin"


def test_the_core_imports_no_plugin_and_only_families_import_families():
    for path in files(CORE):
        names = imports(path)
        assert not [name for name in names if name.split(".")[0] in PLUGINS], path
        if path.parts[len(CORE.parts)] != "families":
            assert not [name for name in names if name.startswith("tts_train.families")], path


@pytest.mark.parametrize("path", files(CORE), ids=lambda path: str(path.relative_to(CORE)))
def test_only_the_command_line_imports_the_command_line(path):
    if path.parts[len(CORE.parts)] not in {"cli", "__main__.py"}:
        assert not [name for name in imports(path) if name.startswith("tts_train.cli")]


@pytest.mark.parametrize("package", PLUGINS)
def test_plugins_know_neither_the_command_line_nor_each_other(package):
    for path in files(PLUGINS[package]):
        names = imports(path)
        others = [name for name in names if any(name.startswith(other) for other in PLUGINS if other != package)]
        assert not others, path
        assert not [name for name in names if name.startswith("tts_train.cli")], path


def folder_of(module: str, package: str) -> str | None:
    """Return the folder or module right below a package that a dotted name lies in."""
    parts = module.split(".")
    return parts[1] if parts[0] == package and len(parts) > 1 else None


def folder_imports(package: Path) -> dict[str, set[str]]:
    """Return which folders (and modules) right below a package import which others."""
    found: dict[str, set[str]] = {}
    for path in files(package):
        relative = path.relative_to(package)
        own = relative.parts[0].removesuffix(".py")
        named = {folder_of(module, package.name) for module in imports(path)} - {None, own}
        found.setdefault(own, set()).update(each for each in named if each)
    return found


@pytest.mark.parametrize("package", [CORE, *PLUGINS.values()], ids=lambda path: path.name)
def test_no_import_runs_back_up_between_folders(package):
    graph = folder_imports(package)
    while True:  # what imports nothing that is left cannot be part of a circle
        lowest = [name for name, below in graph.items() if not below & graph.keys()]
        if not lowest:
            break
        graph = {name: below for name, below in graph.items() if name not in lowest}
    assert not graph, {name: sorted(below & graph.keys()) for name, below in graph.items()}


GPT_SOVITS_FLOORS = (
    *("signal", "text", "networks", "released", "features", "starts", "preparing", "voice", "stages", "export"),
)
"""Each folder of GPT-SoVITS may import those before it."""


def test_the_floors_of_gpt_sovits():
    graph = folder_imports(PLUGINS["tts_train_gpt_sovits"])
    for number, name in enumerate(GPT_SOVITS_FLOORS):
        above = graph[name] - set(GPT_SOVITS_FLOORS[:number])
        assert not above, f"{name} imports {', '.join(sorted(above))}"
    # A weight file is read by its names and sizes: no network is needed for it.
    assert "networks" not in graph["released"]
    assert not graph["signal"]


def test_class_names_of_gpt_sovits_stand_for_one_class_each():
    found: dict[str, list[str]] = {}
    for path in files(PLUGINS["tts_train_gpt_sovits"]):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path))
    assert not {name: paths for name, paths in found.items() if len(paths) > 1}


def test_corpus_reading_needs_no_torch():
    for path in files(CORE / "corpus"):
        assert not {name.split(".")[0] for name in imports(path)} & HEAVY, path


def test_no_module_is_a_drawer():
    for folder in (CORE, *PLUGINS.values()):
        for path in files(folder):
            assert path.stem not in {"utils", "helpers", "common", "misc"}, path
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, f"{path} has grown two jobs"


@pytest.mark.parametrize(
    "words",
    ["--help", "backends", "plugins", "formats", "prepare --backend orpheus --help", "init --help", "doctor --help"],
)
def test_light_commands_do_not_import_torch(words):
    script = (
        "import sys; from tts_train.cli import main; code = main(sys.argv[1:]);"
        "heavy = sorted({'torch', 'lightning', 'transformers'} & set(sys.modules));"
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *words.split()], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_what_a_program_works_with_needs_no_torch_until_it_works():
    script = (
        "import sys, tts_train; from tts_train import evaluate, export, prepare, speak;"
        "heavy = sorted({'torch', 'lightning', 'transformers'} & set(sys.modules));"
        "assert not heavy, heavy; assert 'tts_train.cli' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
