"""What a backend imports from tts-train: the names are there, light where they can be, and documented."""

from __future__ import annotations

import ast
import shlex
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest
from tts_train_toy.network import ToyNetwork

from tts_train import contract, corpus, datasets, disk, nn, optim, weights
from tts_train.cli import main
from tts_train.contract.backend import resolve
from tts_train.corpus import Utterance
from tts_train.corpus.ledger import Ledger
from tts_train.errors import DataError
from tts_train.families import token_lm
from tts_train.plugins import PluginError, Plugins

ROOT = Path(__file__).parents[2]
BACKENDS = sorted(path.parent for path in [*ROOT.glob("plugins/*/*/plugin.py"), *ROOT.glob("examples/*/*/plugin.py")])
MINE = """
from tts_train.contract import Backend, Curve, Package, Stage, hookimpl

HUM = Stage(
    name="hum",
    summary="Letters to tones.",
    model="tts_train_mine.module:Silent",
    data="tts_train_toy.data:ToyData",
)


@hookimpl
def tts_train_backend():
    return Backend(
        name="mine",
        summary="Hums as the toy does.",
        stages=(HUM,),
        start=("mine-small",),
        reasons={"mumbled": "Nobody understands this recording; record it again."},
        packages=(
            Package(name="no-such-codec", purpose="speaks frames", install="pip install ./codec"),
            Package(name="no-such-reader", purpose="reads Breton", needed=False),
        ),
        titles={"loss": Curve(title="Error of the spectra", unit=" dB")},
    )
"""
SILENT = """
from tts_train.contract import StageModule
from tts_train_toy.module import ToyModule


class Silent(ToyModule):
    __doc__ = ToyModule.__doc__
    voice = StageModule.voice
"""
RECIPE = "# Mine.\nbackend: mine\nstage: hum\ntrainer:\n  accelerator: cpu\n  max_steps: 2\n"


PUBLIC = (contract, corpus, datasets, disk, token_lm, nn, optim, weights)
"""The packages that a backend's package imports from."""


@pytest.mark.parametrize("package", PUBLIC, ids=lambda package: package.__name__.removeprefix("tts_train."))
def test_every_public_name_is_there_and_known_to_type_checkers(package):
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    found = {
        name.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert sorted(found) == dir(package)
    for name, home in found.items():
        value = getattr(package, name)
        assert value is getattr(import_module(home), name), f"{name} is of another module than type checkers are told"
    with pytest.raises(AttributeError, match=r"has no name 'Bakcend'; see docs/writing-a-backend\.md"):
        _ = package.Bakcend


def imported_names(folder):
    """Return the public packages that a distribution imports from, each with the names that it takes."""
    found = defaultdict(set)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tts_train":
                found[node.module] |= {name.name for name in node.names}
            elif isinstance(node, ast.Import):
                found |= {name.name: set() for name in node.names if name.name.split(".")[0] == "tts_train"}
    return found


@pytest.mark.parametrize("where", BACKENDS, ids=lambda path: path.name)
def test_backends_import_only_public_packages(where):
    public = {package.__name__: set(dir(package)) for package in PUBLIC}
    found = imported_names(where)
    assert found.keys() <= public.keys()
    # Names only: a module of a package would bring all of its own along.
    assert not {name: names - public[name] for name, names in found.items() if names - public[name]}


def test_describing_a_backend_loads_no_torch():
    script = (
        "import sys; from tts_train.contract import Backend, Demo, ExportJob, Format, Metric, PrepareJob, Stage,"
        "SynthJob, TTSTrainError, hookimpl; from tts_train.families.token_lm import CardText, GgufExport, HfExport,"
        "PeftExport, MergedExport, TokenLM, TokenLayout, TokenPrepare, TokenSynth;"
        "heavy = {'torch', 'lightning', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_every_public_name_is_documented():
    guide = (ROOT / "docs" / "writing-a-backend.md").read_text(encoding="utf-8")
    contract_tables = [line for line in guide.split("## The contract")[1].splitlines() if line.startswith("| `")]
    listed = {word for line in contract_tables for word in line.split("|")[1].split("`")[1::2]}
    there = {name for package in PUBLIC for name in dir(package)}
    assert not there - listed, "docs/writing-a-backend.md does not say what these are for"
    assert not listed - there, "docs/writing-a-backend.md names what is not public"


MOST_NAMES = 134
"""A backend's author learns these: lower it where a name goes, and ask what a base class could do before it rises."""


def test_the_public_names_do_not_grow():
    assert sum(len(dir(package)) for package in PUBLIC) <= MOST_NAMES


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A third party's distribution, as pip would leave it: no file of tts-train knows it."""
    site = tmp_path / "site"
    info, package = site / "mine-1.0.dist-info", site / "tts_train_mine"
    for folder in (info, package / "recipes"):
        folder.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tts-train-mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tts_train.backends]\nmine = tts_train_mine.plugin\n")
    (package / "__init__.py").write_text("")
    (package / "plugin.py").write_text(MINE)
    (package / "module.py").write_text(SILENT)
    (package / "recipes" / "mine-small.yaml").write_text(RECIPE)
    monkeypatch.syspath_prepend(site)
    yield package
    for name in [name for name in sys.modules if name.startswith("tts_train_mine")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("module:Silnt", "'tts_train_mine.module:Silnt', and tts_train_mine.module has no Silnt; there is Silent"),
        ("other:Silent", "'tts_train_mine.other:Silent', and no module tts_train_mine.other can be imported"),
    ],
)
def test_a_table_that_names_what_is_not_there_is_told_so(mine, named, said, tmp_path, capsys):
    (mine / "plugin.py").write_text(MINE.replace("module:Silent", named))
    code = main(["fit", "--backend", "mine", "--trainer.max_steps", "1", "--run_dir", str(tmp_path / "run")])
    shown = capsys.readouterr().err
    assert code == 70
    assert said in shown
    assert "plugin.py" in shown
    assert "Traceback" not in shown


def test_what_a_module_of_a_backend_lacks_itself_keeps_its_traceback(mine):
    (mine / "module.py").write_text("import sys\nimport no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        resolve("tts_train_mine.module:Silent")
    (mine / "module.py").write_text("import sys\n\nsys.no_such_name\n")
    with pytest.raises(AttributeError, match="no_such_name"):
        resolve("tts_train_mine.module:Silent")


def test_a_third_partys_reasons_recipes_packages_and_titles_work_like_ours(mine, tmp_path, capsys, monkeypatch):
    row = Utterance(id="x", origin="x.list:1", audio=Path("x.wav"), text="x")
    Plugins(selected=()).load("mine")
    ledger = Ledger()
    ledger.drop(row, "mumbled")
    with pytest.raises(DataError, match=r"mumbled: 1\. Nobody understands this recording; record it again\."):
        ledger.enforce(0.0)

    recordings = tmp_path / "recordings"
    recordings.mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["init", "new", "--backend", "mine", "--data", str(recordings)]) == 0
    assert "recipe.yaml" in capsys.readouterr().out
    assert (tmp_path / "new" / "recipe.yaml").read_text() == RECIPE
    for recipe in ("mine-small", "new/recipe.yaml"):
        assert main(shlex.split(f"fit -c {recipe} --run_dir run")) == 0
    assert "Error of the spectra" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    capsys.readouterr()
    assert main(["doctor"]) == 2
    told = capsys.readouterr().out
    assert "FAIL  no-such-codec  is missing (speaks frames). Install it with: pip install ./codec" in told
    assert "INFO  no-such-reader reads Breton: pip install no-such-reader" in told


def test_a_reason_that_means_something_else_is_refused_by_the_backends_name(mine):
    text = MINE.replace("mumbled", "silent")
    (mine / "plugin.py").write_text(text)
    with pytest.raises(PluginError, match=r"Backend 'mine' gives a reason .*'silent' means already"):
        Plugins(selected=()).load("mine")


def test_a_stage_without_a_voice_is_not_asked_to_speak(mine, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit = shlex.split("fit -c mine-small --run_dir run")
    assert main([*fit, "--help"]) == 0
    assert "--listen" not in capsys.readouterr().out
    assert main([*fit, "--listen.sentences", "5", "--listen.max_share", "0.2"]) == 2
    told = capsys.readouterr().err
    assert "--listen.sentences, --listen.max_share cannot be answered: stage 'hum' of backend 'mine'" in told
    assert "No stage of mine is heard." in told
    assert not (tmp_path / "run").exists()
    # What an earlier run wrote down, the defaults, and what asks for silence are taken.
    assert main([*fit, "--print_config"]) == 0
    (tmp_path / "old.yaml").write_text(capsys.readouterr().out)
    assert "listen:" in (tmp_path / "old.yaml").read_text()
    assert main(shlex.split("fit -c old.yaml --run_dir run --listen.sentences 0 --listen.max_share 0.2")) == 0


def test_the_core_asks_modules_and_data_by_methods():
    """A question is a method with a default; only contract/data.py looks for what Lightning may not set."""
    core = Path(contract.__file__).parents[1]
    for path in core.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("getattr", "hasattr")
            ):
                of, name = node.args[0], node.args[1]
                probed = isinstance(of, ast.Name) and of.id in ("pl_module", "data", "datamodule", "data_module")
                probed |= isinstance(name, ast.Constant) and name.value == "datamodule"
                assert not probed or path == core / "contract" / "data.py", f"{path}:{node.lineno}"


def test_a_run_whose_weights_have_other_sizes_here_is_refused_by_name(tmp_path, capsys, monkeypatch):
    fit = ["fit", "--backend", "toy", "--run_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu"]
    assert main([*fit, "--trainer.max_steps", "1"]) == 0
    # A network that the backend makes itself may have other sizes in its next version, under the same options.
    monkeypatch.setattr("tts_train_toy.module.ToyNetwork", lambda bins, width: ToyNetwork(bins, 2 * width))
    capsys.readouterr()
    assert main([*fit, "--trainer.max_steps", "2"]) == 2
    said = capsys.readouterr().err
    assert (
        "2 of another size (the first is network.embed.weight, [128, 32] in the checkpoint and [128, 64] here)" in said
    )
    assert "Traceback" not in said
