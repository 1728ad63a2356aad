"""One word for one thing: what CONTRIBUTING.md's glossary rules out stands in no name, option, help or heading."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.architecture_rules import SOURCE
from tests.house import ROOT
from tts_train.cli import main

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("examples/*/README.md")]
)
HELP = (
    *("init", "check", "doctor", "plan", "report", "demo", "backends", "plugins", "formats"),
    *("prepare --backend orpheus", "synth --backend orpheus", "export --backend orpheus --format gguf"),
    *(
        "prepare --backend gpt_sovits",
        "synth --backend gpt_sovits",
        "export --backend gpt_sovits --stage sovits --format s2",
    ),
    *("corpus slice", "corpus transcribe", "corpus review", "corpus apply"),
    *("corpus speakers", "corpus merge", "corpus split", "corpus export"),
    *("prepare --backend qwen3_tts", "synth --backend qwen3_tts", "fit --backend qwen3_tts"),
    "export --backend qwen3_tts --format custom_voice",
    *("eval --backend orpheus", "fit --backend orpheus", "fit --backend gpt_sovits --stage sovits"),
    "sample --backend orpheus",
)
OTHERS_WORDS = {
    "dataset": r"dataset\.json|DATASET_FILE",  # the index of a prepared set, as files of before name it
    "experiment": r"[Ee]xperiment",  # the WebUI's folder of features, which prepare reads and writes
    "iterations": r"ITERATIONS",  # Griffin-Lim's
    "pretrained": r"orpheus-3b-0\.1-pretrained|pretrained_models",  # names of a model and of a folder
    "speech_tokenizer": r"``speech_tokenizer`` folder",  # Qwen3-TTS's own name of the folder of its codec
    "resume": r"^resume$",  # rows of codes that a voice goes on from
}
"""Where a word that is ruled out is somebody else's, or part of a file format that stays."""


def glossary() -> list[list[str]]:
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Words")[1].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]


ROWS = [row for row in glossary() if row[0] != "---"]
RULED_OUT = {word: row[0] for row in ROWS for word in re.findall(r"`(\w+)`", row[3])}


def named(body: list[ast.stmt]) -> Iterator[str]:
    """Yield the public names that statements define: functions and their parameters, classes, fields, constants."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node.name
            yield from named(node.body) if not node.name.startswith("_") else ()
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            parameters = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            yield from (node.name, *(each.arg for each in parameters if not node.name.startswith("_")))
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))


def words(text: str) -> set[str]:
    """Return the words of a name or a sentence, ``CamelCase`` and ``snake_case`` taken apart."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)
    pairs = {f"{one}_{other}" for one, other in itertools.pairwise(parts)}
    return {word.lower() for word in (*parts, *pairs)}


@cache
def wrong(text: str) -> dict[str, str]:
    """Return the words of a text that are ruled out, with the word to use."""
    return {
        word: RULED_OUT[word]
        for word in words(text) & RULED_OUT.keys()
        if not (word in OTHERS_WORDS and re.search(OTHERS_WORDS[word], text))
    }


def test_the_glossary_is_whole():
    assert len(ROWS) >= 25
    assert len({row[0] for row in ROWS}) == len(ROWS)
    assert all(len(row) == 4 and row[1] for row in ROWS)
    assert not RULED_OUT.keys() & {row[0] for row in ROWS}


def test_what_the_glossary_names_in_the_code_is_there():
    known = {name for module in SOURCE.values() for name in re.findall(r"\w+", module.text)}
    assert not {name for row in ROWS for name in re.findall(r"`(\w+)`", row[2])} - known


def test_public_names_keep_to_the_glossary():
    found = {
        f"{path}: {name}": wrong(name)
        for path, module in SOURCE.items()
        for name in named(module.tree.body)
        if not name.startswith("_") and wrong(name)
    }
    assert not found


def test_headings_keep_to_the_glossary():
    found = {
        f"{page.name}: {line}": wrong(line)
        for page in PAGES
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("#") and wrong(line)
    }
    assert not found


@pytest.mark.parametrize("command", HELP)
def test_options_and_their_help_keep_to_the_glossary(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    # Lightning's options are described in Lightning's words; the usage repeats their names.
    described = text.partition("\n\n")[2]
    ours = re.sub(r"^  --trainer.*?(?=^  --(?!trainer)|^\S|\Z)", "", described, flags=re.MULTILINE | re.DOTALL)
    found = {line: wrong(line) for line in ours.splitlines() if wrong(line)}
    assert "--" in ours
    assert not found


def test_a_word_that_is_ruled_out_is_found():
    assert wrong("load_dataset") == {"dataset": "prepared set"}
    assert wrong("CkptFile") == {"ckpt": "checkpoint"}
    assert wrong("An audio tokenizer") == {"audio_tokenizer": "codec"}
    assert not wrong("ExperimentRow")
