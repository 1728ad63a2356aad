"""The toy is a third party's distribution: it must keep every promise through its entry point alone."""

from __future__ import annotations

import runpy
from pathlib import Path

TEST = Path(__file__).parents[1] / "examples" / "tts-train-toy" / "tests" / "test_toy.py"


def test_the_toy_conforms(tmp_path):
    runpy.run_path(str(TEST))["test_conforms"](tmp_path)
