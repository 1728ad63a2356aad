"""Released files by name: local paths first, the hub's own names after, and errors that say what to fetch."""

from __future__ import annotations

import pytest

from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.released.bases import REPOSITORY, base_file, base_folder, base_names


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Return a function that puts files into the hub's cache as a download would, with the network off."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    home = tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}"

    def put(name: str):
        commit = "0123456789abcdef0123456789abcdef01234567"
        (home / "refs").mkdir(parents=True, exist_ok=True)
        (home / "refs" / "main").write_text(commit)
        path = home / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PK")
        return path

    return put


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        ("v1", "s1", "s1bert25hz-2kh-longer-epoch=68e-step=50232.ckpt"),
        ("v2ProPlus", "s1", "s1v3.ckpt"),
        ("v2", "s2G", "gsv-v2final-pretrained/s2G2333k.pth"),
        ("v2Pro", "s2D", "v2Pro/s2Dv2Pro.pth"),
        ("released", "speaker", "sv/pretrained_eres2netv2w24s4ep4.ckpt"),
    ],
)
def test_released_files_by_name(cached, source, kind, name):
    path = cached(name)
    assert base_file(source, kind) == path


@pytest.mark.parametrize(
    ("kind", "name"), [("hubert", "chinese-hubert-base"), ("bert", "chinese-roberta-wwm-ext-large")]
)
def test_released_folders_by_name(cached, kind, name):
    folder = cached(f"{name}/config.json").parent
    assert base_folder("released", kind) == folder


def test_what_the_hub_does_not_give(cached):
    with pytest.raises(ConfigError, match=r"v2Pro/s2Gv2Pro\.pth of lj1995/GPT-SoVITS could not be fetched.*by hand"):
        base_file("v2Pro", "s2G")
    with pytest.raises(ConfigError, match="could not be fetched"):
        base_folder("owner/name", "bert")


def test_paths(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"PK")
    assert base_file(str(path), "s2G") == path
    assert base_folder(str(tmp_path), "hubert") == tmp_path
    with pytest.raises(DataError, match="is a folder"):
        base_file(str(tmp_path), "s1")
    with pytest.raises(ConfigError, match="no folder"):
        base_folder(str(path), "bert")


@pytest.mark.parametrize(("kind", "missing"), [("s2D", "v3"), ("s1", "v9"), ("s2G", "released")])
def test_names_that_stand_for_nothing(kind, missing):
    assert missing not in base_names(kind)
    with pytest.raises(ConfigError, match="v2Pro"):
        base_file(missing, kind)


def test_every_version_has_its_files():
    versions = ("v1", "v2", "v3", "v4", "v2Pro", "v2ProPlus")
    assert base_names("s1") == base_names("s2G") == versions
    assert set(base_names("s2D")) == set(versions) - {"v3", "v4"}
