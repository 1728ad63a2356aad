"""Without a network, what is not cached is named at once."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from tests.core.scoring.sounds import VOICE
from tests.orpheus.family import base_config
from tts_train.cli import main
from tts_train.errors import ConfigError
from tts_train.weights import hub

OFFLINE = {
    "tokenizer": ["prepare", "--backend", "orpheus", "--corpus", str(VOICE), "--out", "p", "--codec", "tiny"],
    "codec": ["prepare", "--backend", "orpheus", "--corpus", str(VOICE), "--out", "p", "--tokenizer", "tiny"],
    "bert": ["prepare", "--backend", "gpt_sovits", "--corpus", str(VOICE), "--out", "p", "--language", "en"],
}


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    def refuse(host, *args, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    hub.unreachable.cache_clear()
    yield
    hub.unreachable.cache_clear()


@pytest.mark.parametrize("missing", OFFLINE)
def test_what_cannot_be_fetched_is_said_in_a_line_without_retries(missing, no_network, capsys):
    assert main(OFFLINE[missing]) == 2
    error = capsys.readouterr().err
    assert "cannot be reached" in error
    assert f"--{missing}" in error or missing == "bert"
    assert "Retry" not in error
    assert len([line for line in error.splitlines() if "huggingface" in line]) == 1


def test_a_base_that_cannot_be_fetched_is_named(no_network):
    with pytest.raises(ConfigError, match=r"--model.init_from nobody/orpheus: .* cannot be reached.* local folder"):
        base_config("nobody/orpheus")


def test_a_proxy_finds_addresses_itself(no_network, monkeypatch):
    assert hub.unreachable()
    hub.unreachable.cache_clear()
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": "http://proxy:3128"})
    assert not hub.unreachable()
