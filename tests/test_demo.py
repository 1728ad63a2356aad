"""The demo keeps its promises: the real command, as `make demo` runs it."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from tts_train.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_the_demo_of_orpheus(tmp_path, capsys):
    out = tmp_path / "demo"
    assert main(["demo", "--backend", "orpheus", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["continued_exactly"], "a killed run and its continuation equal an uninterrupted run"
    assert told["weights_hash"] == told["weights_hash_uninterrupted"]
    assert told["val_loss"]["after"] < told["val_loss"]["before"] / 2
    assert told["rows"] == 40
    assert told["spoken_seconds"] > 0.08
    page = (out / "run" / "report.html").read_text(encoding="utf-8")
    HTMLParser().feed(page)
    assert "<audio" in page
    assert main(["demo", "--backend", "orpheus", "--out", str(tmp_path)]) == 2, "other people's folders stay"
