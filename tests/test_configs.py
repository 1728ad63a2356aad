"""Every recipe is parsed by the real parser, explains itself, and is listed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tts_train.configuration.select import select
from tts_train.recipes import recipes_folder
from tts_train.training.parser import TrainingParser

ROOT = Path(__file__).parents[1]
RECIPES = sorted(recipes_folder().rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recipe_is_understood(path):
    words = ["-c", str(path)]
    selection = select(words)
    parser = TrainingParser("fit", selection.load(), selection.rest)
    assert parser.resolved["backend"] == selection.backend


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recipe_explains_itself(path):
    comment = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    for word in ("For whom:", "Card:", "umbers"):
        assert word in comment
    assert f"({path.parent.name}/{path.name})" in (recipes_folder() / "README.md").read_text()


def test_pages_name_the_card_that_the_recipe_names():
    """As ``6 GB for `--recipe lm-qlora` `` in a page, and ``# Card: 6 GB and up.`` in a recipe of that name."""
    cards = {
        (path.parent.name, path.stem): re.search(r"# Card: (?:one of )?(\d+) ", path.read_text()) for path in RECIPES
    }
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    sentence = re.compile(r"(\d+) GB for `(?:--recipe )?([\w-]+)`")
    backends = {path.parent.name for path in RECIPES}
    named = [
        ({page.stem} & backends or backends, *found) for page in pages for found in sentence.findall(page.read_text())
    ]
    rows = re.findall(
        r"\((\w+)/([\w-]+)\.yaml\) \| (\d+) GB cards and up", (recipes_folder() / "README.md").read_text()
    )
    assert len(named) >= 2
    assert len(rows) >= 4
    for homes, gigabytes, recipe in [*named, *(({home}, size, recipe) for home, recipe, size in rows)]:
        said = [card[1] for home in homes if (card := cards.get((home, recipe)))]
        assert gigabytes in said, recipe
