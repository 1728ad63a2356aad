"""docs/architecture.md as tests: its tree, who may import whom, which commands stay light; sizes that only shrink."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.architecture_rules import SOURCE, Row, missing, read_rows, read_tree
from tests.house import MODULES, PACKAGES, ROOT, measure_house

CORE = ROOT / "core" / "tts_train"
HOMES = {"tts_train": CORE, **{path.name: path for path in ROOT.glob("plugins/*/tts_train_*")}}
ROWS = read_rows()
TREE = read_tree()

# What is measured by tools/measure_house.py may become better, never worse: set a figure to what is reached.
MOST_IMPORTED_NAMES = 123
MOST_LINES = 400
LONGEST_OF_MOST_FUNCTIONS = 29
LEAST_COMMENTED = 4.0
ODD_FOLDERS = {
    "tts_train_gpt_sovits": "the backend's table and its export formats; everything else has a folder",
}
"""Folders that have not 4 to 12 files, and why; the list only shrinks."""


@pytest.mark.parametrize("path", sorted(path for path in SOURCE if path.startswith("tts_train/")))
def test_core_names_no_backend(path):
    text = SOURCE[path].text.lower()
    for name in ("orpheus", "sovits", "snac_24khz", "qwen3_tts", "qwen3-tts"):
        assert name not in text, f"{path} names {name}: that belongs into the plugin"


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_who_may_import_whom(row):
    faults = list(row.faults())
    assert not faults, "\n".join(["docs/architecture.md does not allow:", *faults])


def test_every_module_stands_in_a_row():
    assert SOURCE.keys() == {path for row in ROWS for path, _ in row.modules()}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (Row("`tts_train/training`", "nothing", "–"), "tts_train/training/run imports tts_train/errors"),
        (Row("`tts_train/optim`", "not `tts_train/nn`", "–"), r"tts_train/optim/\S+ imports tts_train/nn"),
        (Row("`tts_train_*`", "`tts_train/disk`", "–"), "tts_train_orpheus/model imports tts_train/families/token_lm"),
        (Row("`tts_train/{training,cli}`", "those before them", "–"), None),
        (Row("`tts_train/{cli,training}`", "those before them", "–"), "tts_train/cli/.* imports tts_train/training/"),
        (Row("`tts_train/families`", "–", "torch, Lightning"), "loads Lightning: tts_train/families/.* -> Lightning"),
        (Row("`tts_train/gone`", "–", "–"), "tts_train/gone is no module any more"),
    ],
    ids=str,
)
def test_what_breaks_a_row_is_told(row, fault):
    faults = list(row.faults())
    assert any(re.search(fault, each) for each in faults) if fault else not faults, faults


def test_the_tree_names_every_folder_and_nothing_else():
    gone = [str(path) for path in TREE if not list(ROOT.glob(str(path)))]
    assert not gone, f"the tree of docs/architecture.md names what is no more: {gone}"
    for entry, about in TREE.items():
        for name in re.findall(r"(?<![\w/])(\w+)/(?![\w])", about):
            homes = [other for other, text in TREE.items() if text == about]
            found = [path for home in homes for path in (ROOT / home).rglob(name)]
            assert found, f"the tree of docs/architecture.md names {name}/ at {entry}, which is no more"
    unnamed = [str(folder) for folder in _folders() if not _named(folder)]
    assert not unnamed, f"the tree of docs/architecture.md does not name {unnamed}"


def _folders() -> list[Path]:
    return sorted({(HOMES[each.package] / each.path.parent).relative_to(ROOT) for each in MODULES})


def _named(folder: Path) -> bool:
    if any(entry == folder or folder in entry.parents for entry in TREE):
        return True
    above = [entry for entry in TREE if entry in folder.parents]
    return bool(above) and f"{folder.name}/" in TREE[max(above, key=lambda entry: len(entry.parts))]


def test_what_programs_beside_the_packages_import_is_there():
    programs = [path for folder in ("benchmarks", "tools") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert programs
    assert not [fault for path in programs for fault in missing(path)]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_runs_back_up_between_folders(package):
    found = measure_house.arrows(PACKAGES[package])
    back = {arrow: found[arrow] for arrow in measure_house.back_arrows(found)}
    assert not back


def test_no_public_class_name_stands_for_two_classes():
    assert not measure_house.double_classes(MODULES)


def test_no_module_is_a_drawer():
    for module in MODULES:
        place = f"{module.package}/{module.path}"
        assert module.path.stem not in {"utils", "helpers", "common", "misc"}, place
        assert module.lines <= MOST_LINES, f"{place} has grown two jobs"


def test_folders_have_a_size_that_a_reader_takes_in():
    odd = measure_house.odd_folders(PACKAGES).keys()
    assert not odd - ODD_FOLDERS.keys(), "4 to 12 files a folder: split or merge modules, or say why in ODD_FOLDERS"
    assert not ODD_FOLDERS.keys() - odd, "has 4 to 12 files now: take it out of ODD_FOLDERS"


def test_functions_are_short():
    assert measure_house.function_lengths(MODULES, 0.95)[0] <= LONGEST_OF_MOST_FUNCTIONS


def test_comments_do_not_become_fewer():
    assert measure_house.comment_share(MODULES) >= LEAST_COMMENTED


def test_backends_need_no_more_names_of_the_core_than_before():
    names = {name for _, name in measure_house.imported_names(PACKAGES)}
    assert len(names) <= MOST_IMPORTED_NAMES, Counter(source for source, _ in measure_house.imported_names(PACKAGES))


LIGHT = (
    "--help",
    "backends",
    "plugins",
    "formats",
    "prepare --backend orpheus --help",
    "prepare --backend qwen3_tts --help",
    "init --help",
    "doctor --help",
)


def test_light_commands_do_not_import_torch():
    script = (
        "import sys; from tts_train.cli import main\n"
        "for words in sys.argv[1:]:\n"
        "    assert main(words.split()) == 0, words\n"
        "    heavy = sorted({'torch', 'lightning', 'transformers'} & set(sys.modules))\n"
        "    assert not heavy, (words, heavy)\n"
        "    print(end=chr(0))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *LIGHT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split(chr(0))
    assert len(printed) == len(LIGHT) + 1
    assert all(each.strip() for each in printed[:-1])


def test_what_a_program_works_with_needs_no_torch_until_it_works():
    script = (
        "import sys, tts_train; from tts_train import evaluate, export, prepare, speak;"
        "heavy = sorted({'torch', 'lightning', 'transformers'} & set(sys.modules));"
        "assert not heavy, heavy; assert 'tts_train.cli' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
