"""The commands of docs/tour.md, tutorial.md and qwen3_tts.md run as they stand, in order, and print what is shown."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from tests.house import ROOT
from tts_train.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGES = {"tour": 24, "tutorial": 11, "qwen3_tts": 12}
"""Pages of docs/, with their number of commands."""
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
BIG = "tts-train plan --backend orpheus -c lm-lora"
"""Takes a while: the small recipe is planned instead, and the page's figures are not compared."""


def steps(page: str) -> list[tuple[str, list[str]]]:
    """Return each command of the page with the lines that are shown below it."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def pattern(shown: list[str]) -> str:
    """Return what the printed text must match: ``…`` is the rest of a line, or alone any lines."""
    lines = [re.sub(r"(?:\\ ){2,}", r"\\ +", re.escape(line)).replace("…", ".*") for line in shown]
    return "".join(r"(?:.*\n)*?" if line == ".*" else rf"{line}\s*\n" for line in lines)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_prints_what_the_page_shows(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("core", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert len(steps(page)) == PAGES[page]
    for command, shown in steps(page):
        if not command.startswith("tts-train "):
            subprocess.run(["bash", "-c", command], check=True, timeout=60)
            continue
        if command.startswith(BIG):
            command = command.replace("lm-lora", "lm-tiny")
            shown = [re.sub(r"(\s{2,}).*", r"\1…", line) for line in shown]
        assert main(shlex.split(command)[1:]) == 0, f"{command}\n{capsys.readouterr().err}"
        printed = capsys.readouterr().out
        assert re.fullmatch(pattern(shown), printed), f"{command} printed\n{printed}"


def test_other_output_is_told():
    assert re.fullmatch(pattern(["step  60", "val/loss  0.0…", "…"]), "step  60\nval/loss  0.012\nreport  x\n")
    assert not re.fullmatch(pattern(["step  60"]), "step  61\n")
    assert not re.fullmatch(pattern(["step  60"]), "step  60\nmore\n")
    assert not re.fullmatch(pattern(["a", "…", "c"]), "a\nb\n")
