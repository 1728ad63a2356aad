"""``tts-train init``: a commented recipe for a corpus, and the commands that come next."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tts_train.cli import COMMANDS
from tts_train.cli.output import print_report
from tts_train.cli.recipe_file import read_config
from tts_train.errors import ConfigError
from tts_train.plugins import Plugins
from tts_train.recipes import find_recipe, summary

_DATA_PATH = re.compile(r"^(?P<indent>\s+)path:.*$", re.MULTILINE)


def run(verb: str, words: list[str]) -> int:
    """Write ``recipe.yaml`` into a new or empty place; an existing recipe stays."""
    parser = argparse.ArgumentParser(prog=f"tts-train {verb}", allow_abbrev=False, description=COMMANDS[verb][1])
    parser.add_argument("folder", type=Path, help="folder for the recipe; the prepared data will go beside it")
    parser.add_argument("--backend", required=True, help="family of models")
    parser.add_argument("--data", required=True, type=Path, help="recordings with text")
    parser.add_argument("--recipe", help="recipe to start from; those for a first voice where none is given")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    report = _init(options.folder, options.backend, options.data, options.recipe)
    print_report(report, as_json=options.json)
    return 0


def _init(folder: Path, backend: str, data: Path, recipe: str | None) -> dict[str, object]:
    if not data.exists():
        raise ConfigError(f"There is no corpus at {data}. Give --data the folder or file of your recordings.")
    sources = _sources(backend, recipe)
    prepared = folder / "prepared"
    targets = [folder / name for name in _names(sources)]
    taken = next((target for target in targets if target.exists()), None)
    if taken is not None:
        raise ConfigError(f"{taken} exists and stays as it is. Choose another folder, or remove it first.")
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in zip(sources, targets, strict=True):
        text = _DATA_PATH.sub(rf"\g<indent>path: {prepared}", source.read_text(encoding="utf-8"), count=1)
        target.write_text(text, encoding="utf-8")
    runs = [Path("runs") / (folder.name if len(targets) == 1 else f"{folder.name}-{one.stem}") for one in targets]
    return {
        "recipe": ", ".join(map(str, targets)),
        "from": "; ".join(f"{source.stem}: {summary(source)}" for source in sources),
        "next": [
            f"tts-train check {data}",
            f"tts-train prepare --backend {backend} --corpus {data} --out {prepared}",
            *(f"tts-train fit -c {target} --run_dir {run}" for target, run in zip(targets, runs, strict=True)),
        ],
    }


def _sources(backend: str, recipe: str | None) -> list[Path]:
    """Return the recipes that are asked for, or those that the backend has for beginners."""
    start = Plugins().load(backend).start
    if recipe is None and not start:
        raise ConfigError(
            f"Backend {backend!r} brings no recipes. Start with: tts-train fit --backend {backend} --help"
        )
    return [find_recipe(backend, name) for name in ([recipe] if recipe else start)]


def _names(sources: list[Path]) -> list[str]:
    """Return the new files' names: ``recipe.yaml``, or one for each stage."""
    stages = [str(read_config(source)["stage"]) for source in sources]
    return ["recipe.yaml"] if len(sources) == 1 else [f"{stage}.yaml" for stage in stages]
