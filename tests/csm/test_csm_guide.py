"""The guide's step by step: its blocks are the example's own text, and its commands print what it says."""

from __future__ import annotations

import re
import shlex
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.csm.test_csm_promises import corpus
from tts_train.cli import main

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "tts-train-csm"
FILES = sorted(path.name for path in (EXAMPLE / "tts_train_csm").glob("*.py") if path.name != "__init__.py")


def steps():
    """The guide's steps by what their headings name."""
    page = (ROOT / "docs" / "writing-a-backend.md").read_text(encoding="utf-8")
    (story,) = re.findall(r"^### CSM-1B, step by step$(.*?)^### ", page, re.M | re.S)
    return re.findall(r"^#### \d+\. (.*?)$(.*?)(?=^#### |\Z)", story, re.M | re.S)


def said(code):
    """Its lines alone: a formatter of pages moves a block of methods to the margin, and sets blank lines between."""
    return "\n".join(line.strip() for line in code.splitlines() if line.strip())


@pytest.mark.parametrize("file", FILES)
def test_blocks_are_the_files_own_text(file):
    (step,) = (text for heading, text in steps() if f"`{file}`" in heading)
    blocks = re.findall(r"```python\n(.*?)\n```", step, re.S)
    text = said((EXAMPLE / "tts_train_csm" / file).read_text(encoding="utf-8"))
    assert blocks
    for block in map(said, blocks):
        assert f"\n{block}\n" in f"\n{text}\n", f"{file} does not say:\n{block}"
    for block in re.findall(r"```toml\n(.*?)\n```", step, re.S):
        assert block in (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")


def test_the_example_stays_as_small_as_it_is_said_to_be():
    lines = [line for path in (EXAMPLE / "tts_train_csm").glob("*.py") for line in path.read_text().splitlines()]
    assert len(lines) <= 525


@pytest.mark.slow
def test_commands_print_what_the_guide_shows(tmp_path, monkeypatch, capfd):
    corpus(tmp_path / "recordings")
    monkeypatch.chdir(tmp_path)
    (console,) = re.findall(r"```console\n(.*?)\n```", "".join(text for _, text in steps()), re.S)
    for each in console.split("$ tts-train ")[1:]:
        command, *shown = each.splitlines()
        assert main(shlex.split(command)) == 0, command
        out, err = capfd.readouterr()
        printed = (out + err).splitlines()
        for line in shown:
            wanted = line.replace("…", "*")
            assert any(fnmatchcase(found.strip(), wanted) for found in printed), f"{command} does not print {line!r}"
