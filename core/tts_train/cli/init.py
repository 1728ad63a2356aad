"""``tts-train init``: a commented recipe for a corpus, and the commands that come next."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tts_train.cli.output import print_report
from tts_train.errors import ConfigError
from tts_train.plugins import installed_backends
from tts_train.recipes import find_recipe, recipes_of, summary

_DATA_PATH = re.compile(r"^(?P<indent>\s+)path:.*$", re.MULTILINE)


def run(verb: str, words: list[str]) -> int:
    """Write ``recipe.yaml`` into a new or empty place; an existing recipe stays."""
    parser = argparse.ArgumentParser(prog=f"tts-train {verb}", allow_abbrev=False, description=__doc__)
    parser.add_argument("folder", type=Path, help="folder for the recipe; the prepared data will go beside it")
    parser.add_argument("--backend", required=True, help="family of models")
    parser.add_argument("--data", required=True, type=Path, help="recordings with text")
    parser.add_argument("--recipe", help="recipe to start from; the first of the backend where none is given")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    report = _init(options.folder, options.backend, options.data, options.recipe)
    print_report(report, as_json=options.json)
    return 0


def _init(folder: Path, backend: str, data: Path, recipe: str | None) -> dict[str, object]:
    if backend not in {found.name for found in installed_backends()}:
        raise ConfigError(f"No backend {backend!r} is installed. See: tts-train backends")
    if not data.exists():
        raise ConfigError(f"There is no corpus at {data}. Give --data the folder or file of your recordings.")
    known = recipes_of(backend)
    if recipe is None and not known:
        raise ConfigError(
            f"Backend {backend!r} brings no recipes. Start with: tts-train fit --backend {backend} --help"
        )
    source = find_recipe(backend, recipe or _first(known))
    target, prepared = folder / "recipe.yaml", folder / "prepared"
    if target.exists():
        raise ConfigError(f"{target} exists and stays as it is. Choose another folder, or remove it first.")
    folder.mkdir(parents=True, exist_ok=True)
    text = _DATA_PATH.sub(rf"\g<indent>path: {prepared}", source.read_text(encoding="utf-8"), count=1)
    target.write_text(text, encoding="utf-8")
    return {
        "recipe": str(target),
        "from": f"{source.stem}: {summary(source)}",
        "next": [
            f"tts-train check {data}",
            f"tts-train prepare --backend {backend} --corpus {data} --out {prepared}",
            f"tts-train fit -c {target} --run_dir {Path('runs') / folder.name}",
        ],
    }


def _first(known: dict[str, Path]) -> str:
    return next((name for name in known if name.endswith("-lora")), next(iter(known)))
