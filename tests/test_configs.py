"""Every recipe is parsed by the real parser, explains itself, and is listed."""

from __future__ import annotations

import pytest

from tts_train.cli.parser import TrainingParser
from tts_train.cli.select import select
from tts_train.recipes import recipes_folder

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
