"""The demo of Orpheus: a killed run continues exactly, and the voice says what it has learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.demo import show_demo
from tts_train.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_the_demo_speaks(tmp_path, capsys):
    told = show_demo("orpheus", tmp_path / "demo", capsys)["lm"]
    assert told["speaks"], "the words and the quality of what it has learned, measured against the codec's"
    scores = told["learned"]["scores"]
    assert scores["run"]["words_found"] >= 0.8 * scores["codec"]["words_found"] > 60
    assert scores["run"]["dnsmos"] > scores["codec"]["dnsmos"] - 0.5 > 2
    assert len(list(Path(told["learned"]["sounds"]).glob("*.wav"))) == told["learned"]["sentences"] == 8
    page = Path(told["report"]).read_text(encoding="utf-8")
    assert "learned-s01" in page
    assert page.count("Codec alone") >= 3, "recording, codec and run side by side"
    assert main(["demo", "--backend", "orpheus", "--out", str(tmp_path)]) == 2, "other people's folders stay"
