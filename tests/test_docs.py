"""Docs that cannot go stale: every hook has its section and its test, every documented test exists."""

from __future__ import annotations

import inspect
import re

import pytest

from tests.architecture_rules import is_there
from tests.house import ROOT
from tts_train.contract import hooks as hookspecs

PAGES = sorted(
    page for pattern in ("*.md", "docs/**/*.md", "*/README.md", "*/*/README.md") for page in ROOT.glob(pattern)
)
HOOKS = {name: function for name, function in vars(hookspecs).items() if name.startswith("tts_train_")}
ENTRY_POINTS = "tts_train.backends"
"""The group of entry points, which looks like a module."""


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_signature(name):
    signature = f"{name}({', '.join(inspect.signature(HOOKS[name]).parameters)})"
    assert f"## `{signature}`" in (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_test(name):
    tests = (ROOT / "tests" / "core" / "test_hooks.py").read_text(encoding="utf-8")
    assert f"def test_hook_{name.removeprefix('tts_train_')}" in tests


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_a_page_names_exist(page):
    for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page.read_text(encoding="utf-8")):
        assert (ROOT / file).is_file(), f"{page.name} names {file}"
        if name:
            assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8"), f"{page.name} names {file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_names_that_a_page_writes_are_there(page):
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"`((?:core|plugins|examples|configs|tests|tools|benchmarks)/[\w/.-]+)`", text)
    # RECIPE.yaml stands for the file of any recipe.
    assert not [file for file in files if not (ROOT / file).exists() and not re.search(r"/[A-Z]+\.", file)]
    packages = r"`(tts_train(?:_orpheus|_gpt_sovits|_qwen3_tts|_csm|_toy)?(?:\.\w+)+)`"
    names = set(re.findall(packages, text)) - {ENTRY_POINTS}
    assert not [name for name in names if not is_there(name, "") and not is_there(*name.rpartition(".")[::2])]
