"""The demo keeps its promises: the real command, as `make demo` runs it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tts_train.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_the_demo_of_orpheus(tmp_path, capsys):
    out = tmp_path / "demo"
    told = _show("orpheus", out, capsys)["stages"]["lm"]
    _kept_its_promises(told)
    assert told["speaks"], "the words and the quality of what it has learned, measured against the codec's"
    scores = told["learned"]["scores"]
    assert scores["run"]["words_found"] >= 0.8 * scores["codec"]["words_found"] > 60
    assert scores["run"]["dnsmos"] > scores["codec"]["dnsmos"] - 0.5 > 2
    assert len(list(Path(told["learned"]["sounds"]).glob("*.wav"))) == told["learned"]["sentences"] == 8
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert page.count("learned-s01") >= 3, "recording, codec and run side by side"
    assert main(["demo", "--backend", "orpheus", "--out", str(tmp_path)]) == 2, "other people's folders stay"


def test_the_demo_of_gpt_sovits(tmp_path, capsys):
    stages = _show("gpt_sovits", tmp_path / "demo", capsys)["stages"]
    assert list(stages) == ["gpt", "dpo", "sovits"]
    for told in stages.values():
        _kept_its_promises(told)


def _show(backend, out, capsys):
    assert main(["demo", "--backend", backend, "--out", str(out), "--json"]) == 0
    assert json.loads((out / "prepared" / "dataset.json").read_text(encoding="utf-8"))["rows"] == 40
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def _kept_its_promises(told):
    assert told["continued_exactly"], "a killed run and its continuation equal an uninterrupted run"
    assert told["weights_hash"] == told["weights_hash_uninterrupted"]
    assert told["fell"], "as far as the stage says"
    assert told["spoken_seconds"] > 0.08
    page = Path(told["report"]).read_text(encoding="utf-8")
    HTMLParser().feed(page)
    assert "<audio" in page
