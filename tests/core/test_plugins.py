"""Installed plugins: listing, choosing, blocking; the toy is a real third-party distribution."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tts_train.cli import main
from tts_train.errors import ConfigError
from tts_train.plugins import PluginError, Plugins, installed_backends


def test_listing_names_the_distribution():
    listed = {found.name: found.distribution for found in installed_backends()}
    assert listed["orpheus"] == "tts-train"
    assert listed["toy"] == "tts-train-toy", "make test installs examples/tts-train-toy"


def test_only_the_chosen_backend_is_imported():
    script = (
        "import sys; from tts_train.plugins import Plugins; Plugins().load('toy');"
        "assert 'tts_train_toy.plugin' in sys.modules;"
        "assert not any(name.startswith('tts_train_orpheus') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_an_unknown_backend_is_answered_with_those_there_are():
    with pytest.raises(ConfigError, match=r"No backend 'matcha'.*--backend.*orpheus"):
        Plugins().load("matcha")


def test_the_chosen_backend_cannot_be_blocked():
    with pytest.raises(ConfigError, match="drop --no-plugin toy"):
        Plugins(blocked=["toy"]).load("toy")


@pytest.fixture
def extension(tmp_path, monkeypatch):
    """An installed extension that cannot be imported: metadata and module as pip would leave them."""
    info = tmp_path / "broken_extension-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-extension\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tts_train.plugins]\nbroken = broken_extension\n")
    (tmp_path / "broken_extension.py").write_text("raise RuntimeError('on import')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "broken"


def test_a_broken_extension_stops_with_the_way_around_it(extension):
    with pytest.raises(
        PluginError, match=r"broken \(broken-extension 1.0\).*RuntimeError: on import.*--no-plugin broken"
    ):
        Plugins().load("toy")


def test_a_broken_backend_keeps_no_other_from_being_listed(tmp_path, monkeypatch, capsys):
    info = tmp_path / "broken_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-backend\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tts_train.backends]\nbroken = broken_backend\n")
    (tmp_path / "broken_backend.py").write_text("raise RuntimeError('on import')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["formats"]) == 0
    told = capsys.readouterr()
    assert "orpheus/lm/hf" in told.out
    assert "broken (broken-backend 1.0) could not be imported: RuntimeError: on import" in told.err
    assert main(["formats", "--backend", "broken"]) == 70


def test_a_blocked_extension_is_not_imported(extension):
    assert Plugins(blocked=[extension]).load("toy").name == "toy"


def test_the_environment_selects_extensions(extension, monkeypatch):
    monkeypatch.setenv("TTS_TRAIN_PLUGINS", "")
    assert "broken" not in (plugins := Plugins()).names()
    assert plugins.load("toy").name == "toy"
    monkeypatch.setenv("TTS_TRAIN_PLUGINS", "other, broken")
    with pytest.raises(PluginError):
        Plugins().load("toy")
