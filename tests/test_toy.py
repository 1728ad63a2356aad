"""The toy is a third party's distribution: it must keep every promise through its entry point alone."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from tts_train_toy.jobs import ToySynth

from tts_train.testing import check_backend

TEST = Path(__file__).parents[1] / "examples" / "tts-train-toy" / "tests" / "test_toy.py"


def test_the_toy_conforms(tmp_path):
    runpy.run_path(str(TEST))["test_conforms"](tmp_path)


def hoarse(self):
    raise RuntimeError("The voice is hoarse.")


def test_a_voice_that_does_not_speak_does_not_conform(tmp_path, monkeypatch):
    monkeypatch.setattr(ToySynth, "run", hoarse)
    with pytest.raises(AssertionError, match="speaking with stage 'hum' ended with exit code 70"):
        check_backend("toy", folder=tmp_path)
