"""Honest files are read whole: both layouts, restored signatures, classes as dicts, paths and numpy numbers."""

from __future__ import annotations

import os
import pathlib
import random
import sys
import tracemalloc
import types
from collections import Counter, OrderedDict
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tts_train.errors import DataError, UnsafeFileError
from tts_train.weights import TensorClaim, describe_torch, read_safetensors, read_torch


@pytest.fixture
def config_class(monkeypatch):
    """A class that exists while the file is written and is gone when it is read."""
    module = types.ModuleType("settings_of_others")

    class Config:
        def __init__(self, **values):
            self.__dict__.update(values)

    Config.__module__, Config.__qualname__ = module.__name__, "Config"
    module.Config = Config
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return Config


def training_state() -> dict[str, object]:
    torch.manual_seed(5)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.rand(2, 3)).sum().backward()
    optimizer.step()
    return {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "iteration": 7, "learning_rate": 1e-4}


def assert_same(ours: object, theirs: object) -> None:
    if isinstance(theirs, torch.Tensor):
        assert torch.equal(ours, theirs.detach())
        assert ours.dtype == theirs.dtype
    elif isinstance(theirs, dict):
        assert type(ours) is dict
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, (list, tuple)):
        assert type(ours) is type(theirs)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == theirs
        assert type(ours) is type(theirs)


@pytest.mark.parametrize("present", [True, False], ids=["archive", "older layout"])
def test_training_state_is_read_as_saved(tmp_path, present):
    state = training_state()
    path = tmp_path / "G_7.pth"
    torch.save(state, path, _use_new_zipfile_serialization=present)
    assert_same(read_torch(path), state)


@pytest.mark.parametrize("present", [True, False], ids=["archive", "older layout"])
def test_every_kind_of_value(tmp_path, present):
    shared = torch.arange(12.0).reshape(3, 4)
    values = {
        "views": [shared, shared[1:, ::2], shared.t()],
        "types": [torch.ones(2, dtype=kind) for kind in (torch.float16, torch.bfloat16, torch.int64, torch.bool)],
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "parameter": nn.Parameter(torch.ones(2)),
        "gradient": torch.ones(2, requires_grad=True),
        "plain": (None, True, False, -3, 2**40, 0.1, "tëxt", b"bytes", [], {}, ()),
        1: OrderedDict(a=1),
    }
    path = tmp_path / "values.pt"
    torch.save(values, path, _use_new_zipfile_serialization=present)
    assert_same(read_torch(path), values)


def test_a_description_has_shapes_and_no_data(tmp_path):
    torch.save({"weight": {"a": torch.zeros(2, 3).half()}, "info": "x"}, tmp_path / "a.pth")
    described = describe_torch(tmp_path / "a.pth")
    claim = described["weight"]["a"]
    assert isinstance(claim, TensorClaim)
    assert (claim.shape, claim.dtype, described["info"]) == ((2, 3), "float16", "x")


@pytest.mark.parametrize("present", [True, False], ids=["archive", "older layout"])
def test_a_description_of_a_large_file_reads_no_tensor(tmp_path, present):
    torch.save({"weight": torch.zeros(2**24), "info": "x"}, tmp_path / "a.pth", _use_new_zipfile_serialization=present)
    tracemalloc.start()
    try:
        described = describe_torch(tmp_path / "a.pth")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert described["weight"].shape == (2**24,)
    # Of the older layout as much is read as a pickle may take, since nothing says where it ends.
    assert peak < (2**20 if present else 2.5 * 16 * 2**20)


def test_a_restored_signature(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"weight": torch.ones(3)}, path)
    path.write_bytes(b"05" + path.read_bytes()[2:])
    with pytest.raises(UnsafeFileError, match="not a torch file"):
        read_torch(path)
    assert torch.equal(read_torch(path, head=b"PK")["weight"], torch.ones(3))


def test_objects_become_dicts_only_when_their_class_is_expected(tmp_path, config_class, monkeypatch):
    path = tmp_path / "a.pth"
    torch.save({"config": config_class(train=config_class(epochs=8), name="v")}, path)
    monkeypatch.delitem(sys.modules, "settings_of_others")
    with pytest.raises(UnsafeFileError, match=r"'settings_of_others\.Config'.*GLOBAL at byte"):
        read_torch(path)
    read = read_torch(path, dict_classes=["settings_of_others.Config"])
    assert_same(read, {"config": {"train": {"epochs": 8}, "name": "v"}})
    assert_same(describe_torch(path, dict_classes=["settings_of_others.Config"]), read)


def test_paths_of_any_system_become_text(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save({"here": Path("/logs/a b"), "bare": Path("x")}, path)
    assert read_torch(path) == {"here": "/logs/a b", "bare": "x"}


def test_a_windows_path_is_read_elsewhere(tmp_path, monkeypatch):
    class Elsewhere:
        def __reduce__(self):
            return pathlib.WindowsPath, ("C:\\", "logs", "a")

    torch.save({"here": Elsewhere()}, tmp_path / "a.ckpt")
    assert read_torch(tmp_path / "a.ckpt") == {"here": "C:\\logs\\a"}


@pytest.mark.parametrize(
    "value", [numpy.float64(0.1), numpy.float32(2), numpy.int64(-5), numpy.bool_(True), numpy.uint8(200)]
)
def test_numpy_numbers_become_numbers(tmp_path, value):
    torch.save({"score": value}, tmp_path / "a.ckpt")
    read = read_torch(tmp_path / "a.ckpt")["score"]
    assert type(read) in (bool, int, float)
    assert read == value.item()


def test_the_switch_that_removes_protection_stops_us(tmp_path, monkeypatch):
    torch.save({}, tmp_path / "a.pth")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(UnsafeFileError, match="unset TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        read_torch(tmp_path / "a.pth")


def test_nothing_stays_allowed_afterwards(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save({"a": 1}, tmp_path / "a.pth")
    read_torch(tmp_path / "a.pth", dict_classes=["a.B"])
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("reader", [read_torch, read_safetensors])
def test_missing_files_pipes_and_folders(tmp_path, reader):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no file"):
        reader(tmp_path / "none")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(DataError, match="not a regular file"):
            reader(path)


def test_safetensors(tmp_path):
    tensors = {"a": torch.rand(2, 3), "b": torch.zeros(0), "c": torch.tensor(1)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    read, metadata = read_safetensors(tmp_path / "a.safetensors")
    assert metadata == {"format": "pt"}
    assert_same({key: read[key] for key in tensors}, tensors)


def test_damage_is_read_or_refused_and_nothing_else(tmp_path):
    """Random damage to honest files never ends in any other error, and never in a second line."""
    state = {"weight": nn.Linear(3, 2).state_dict(), "config": {"a": [1, 2.5, None]}, "place": Path("/x")}
    torch.save(state, tmp_path / "a.pth")
    torch.save(state, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    save_file({"a": torch.rand(3), "b": torch.ones(2, 2)}, tmp_path / "c.safetensors")
    dice, outcomes = random.Random(11), Counter()
    for _ in range(600):
        source = dice.choice(sorted(tmp_path.glob("[abc].*")))
        path = tmp_path / f"damaged{source.suffix}"
        path.write_bytes(damaged(source.read_bytes(), dice))
        try:
            (read_safetensors if path.suffix == ".safetensors" else read_torch)(path)
            outcomes["read"] += 1
        except UnsafeFileError as error:
            outcomes["refused" if str(error).count("\n") == 0 else "wordy"] += 1
    assert outcomes["wordy"] == 0
    assert outcomes["refused"] > 300
    assert outcomes["read"] > 20


def damaged(content: bytes, dice: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(dice.choice([1, 1, 2, 4])):
        place = dice.randrange(len(data))
        match dice.randrange(4):
            case 0:
                data[place] = dice.randrange(256)
            case 1:
                data[place] ^= 1 << dice.randrange(8)
            case 2:
                del data[place : place + dice.randrange(1, 9)]
            case _:
                data[place : place + 4] = dice.choice([b"\xff" * 4, bytes(4), b"\0\0\0\x80", b"cos\n"])
    return bytes(data)
