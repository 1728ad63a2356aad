"""The demo of GPT-SoVITS: each stage's killed run continues exactly, and both networks speak."""

from __future__ import annotations

import pytest

from tests.demo import show_demo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_the_demo_shows_every_stage(tmp_path, capsys):
    assert list(show_demo("gpt_sovits", tmp_path / "demo", capsys)) == ["gpt", "dpo", "sovits"]
