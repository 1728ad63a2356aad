"""Checkpoints come back exactly, are whole or invisible, and hold no pickle."""

from __future__ import annotations

import errno
import json
import resource
import signal
import threading
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tts_train.checkpoints.folder_io import MANIFEST, DirectoryCheckpointIO, load_state, verify
from tts_train.checkpoints.tree import NotRepresentableError
from tts_train.errors import DataError, DiskError, NumericError


def checkpoint(step: int = 4) -> dict:
    module = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3))
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return {
        "global_step": step,
        "state_dict": module.state_dict(),
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [{"milestones": Counter({3: 1}), "base_lrs": [0.1], "lr_lambdas": [None]}],
        "hyper_parameters": {"anything": object()},
    }


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


def round_trip(value, folder: Path):
    DirectoryCheckpointIO().save_checkpoint({"global_step": 1, "value": value}, folder / "step-000001")
    return DirectoryCheckpointIO().load_checkpoint(folder / "step-000001")["value"]


def test_a_real_checkpoint_comes_back_exactly(tmp_path):
    saved = checkpoint()
    DirectoryCheckpointIO().save_checkpoint(saved, tmp_path / "step-000004")
    loaded = DirectoryCheckpointIO().load_checkpoint(tmp_path / "step-000004")
    assert "hyper_parameters" not in loaded
    del saved["hyper_parameters"]
    assert same(saved, loaded)
    assert loaded["state_dict"]._metadata == saved["state_dict"]._metadata


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", "1": "b", None: 1.5, False: 2, (1, 2): 3, "$tensor": 4},
        [float("inf"), float("-inf"), float("nan"), -0.0, 0.1, 10**30, True, None, "ü\n"],
        (1, (2, [3]), {4, 5}, frozenset({6}), torch.Size([2, 3]), b"\x00\xff", Path("a/b")),
        OrderedDict([(2, "b"), (1, "a")]),
        [torch.bfloat16, torch.device("cpu"), np.float32(0.1), np.arange(3, dtype=np.int16), np.float64("nan")],
        {"deep": [{"x": (torch.arange(3), {7: torch.ones(())})}], "empty": torch.empty(0, 4)},
    ],
)
def test_nested_state_comes_back_exactly(value, tmp_path):
    assert same(round_trip(value, tmp_path), value)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float64, torch.uint8, torch.int8, torch.bool, torch.uint16,
              torch.complex64, torch.int64]
)  # fmt: skip
def test_dtypes_and_bits_are_kept(dtype, tmp_path):
    size = torch.empty(0, dtype=dtype).element_size()
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (6 * size,), dtype=torch.uint8)
    tensor = raw.view(dtype).reshape(2, 3)
    back = round_trip(tensor, tmp_path)
    assert back.dtype == dtype
    assert torch.equal(back.reshape(-1).view(torch.uint8), raw)


def test_float8_is_kept(tmp_path):
    tensor = torch.randn(5).to(torch.float8_e4m3fn)
    assert torch.equal(round_trip(tensor, tmp_path).view(torch.uint8), tensor.view(torch.uint8))


def test_layouts_are_kept(tmp_path):
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    values = [torch.randn(3, 4).t(), image, torch.randn(4, 6)[:, ::2], torch.randn(3, 1).expand(3, 4)]
    back = round_trip(values, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(values, back, strict=True))
    assert [b.stride() for b in back[:2]] == [a.stride() for a in values[:2]]


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    weight = torch.randn(100, 10)
    saved = {"global_step": 1, "state_dict": OrderedDict(head=weight, embedding=weight, other=weight.clone())}
    DirectoryCheckpointIO().save_checkpoint(saved, tmp_path / "step-000001")
    model = tmp_path / "step-000001" / "model.safetensors"
    assert 8000 < model.stat().st_size < 9000
    assert set(load_file(model)) == {"head", "other"}
    back = load_state(tmp_path / "step-000001", "state_dict")["state_dict"]
    assert back["head"].data_ptr() == back["embedding"].data_ptr() != back["other"].data_ptr()


def test_other_readers_open_the_file(tmp_path):
    saved = checkpoint()
    DirectoryCheckpointIO().save_checkpoint(saved, tmp_path / "step-000004")
    read = load_file(tmp_path / "step-000004" / "model.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in saved["state_dict"].items())


def test_eight_bit_optimizer_continues_exactly(tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    layer = torch.nn.Linear(128, 64)
    optimizer = bitsandbytes.optim.AdamW8bit(layer.parameters(), lr=0.01)
    batch = torch.randn(2, 128)

    def step(layer, optimizer):
        optimizer.zero_grad()
        layer(batch).square().sum().backward()
        optimizer.step()

    step(layer, optimizer)
    saved = {"global_step": 1, "state_dict": layer.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    DirectoryCheckpointIO().save_checkpoint(saved, tmp_path / "step-000001")
    loaded = DirectoryCheckpointIO().load_checkpoint(tmp_path / "step-000001")
    assert same(loaded["optimizer_states"], saved["optimizer_states"])
    assert torch.uint8 in {t.dtype for t in load_file(tmp_path / "step-000001" / "optimizer.safetensors").values()}
    other = torch.nn.Linear(128, 64)
    other.load_state_dict(loaded["state_dict"])
    fresh = bitsandbytes.optim.AdamW8bit(other.parameters(), lr=0.01)
    fresh.load_state_dict(loaded["optimizer_states"][0])
    step(layer, optimizer)
    step(other, fresh)
    assert torch.equal(layer.weight, other.weight)


def test_what_cannot_be_restored_is_refused_with_its_path(tmp_path):
    with pytest.raises(NotRepresentableError, match=r"checkpoint\['value'\]\['a'\]\[1\] is a .*Thread"):
        round_trip({"a": [1, threading.Thread()]}, tmp_path)
    with pytest.raises(NotRepresentableError, match=r"layout torch\.sparse_coo"):
        round_trip(torch.eye(3).to_sparse(), tmp_path)
    with pytest.raises(NotRepresentableError, match="meta"):
        round_trip(torch.empty(3, device="meta"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_never_written(bad, tmp_path):
    saved = checkpoint()
    saved["state_dict"]["2.bias"][1] = bad
    with pytest.raises(NumericError, match=r"2\.bias is not finite"):
        DirectoryCheckpointIO().save_checkpoint(saved, tmp_path / "step-000004")
    assert list(tmp_path.iterdir()) == []


def test_no_pickle_is_written(tmp_path):
    DirectoryCheckpointIO().save_checkpoint(checkpoint(), tmp_path / "step-000004")
    names = sorted(path.name for path in (tmp_path / "step-000004").iterdir())
    assert names == [MANIFEST, "model.safetensors", "optimizer.safetensors", "state.json"]
    for name in names:
        data = (tmp_path / "step-000004" / name).read_bytes()
        assert not data.startswith((b"PK", b"\x80"))
        if name.endswith(".json"):
            json.loads(data)


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "step-000004"
    DirectoryCheckpointIO().save_checkpoint(checkpoint(), path)
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        original = (path / name).read_bytes()
        for position in range(0, len(original), max(1, len(original) // 20)):
            damaged = bytearray(original)
            damaged[position] ^= 1
            (path / name).write_bytes(damaged)
            with pytest.raises(DataError, match=f"{name} have changed"):
                verify(path)
        (path / name).write_bytes(original)
    verify(path)


def test_interrupted_save_leaves_the_old_one(tmp_path):
    path = tmp_path / "step-000004"
    DirectoryCheckpointIO().save_checkpoint(checkpoint(), path)
    before = (path / "model.safetensors").read_bytes()
    for crash_at in range(1, 5):
        written = []

        def crash(file, crash_at=crash_at, written=written):
            written.append(file)
            if len(written) == crash_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            DirectoryCheckpointIO(after_write=crash).save_checkpoint(checkpoint(), path)
        verify(path)
        assert (path / "model.safetensors").read_bytes() == before
        assert [entry.name for entry in tmp_path.iterdir()] == ["step-000004"]


def test_full_disk_is_a_disk_error_and_leaves_nothing(tmp_path):
    path = tmp_path / "step-000004"
    DirectoryCheckpointIO().save_checkpoint(checkpoint(), path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    big = {**checkpoint(5), "state_dict": OrderedDict(weight=torch.randn(100_000))}
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(DiskError, match="could not be written") as caught:
            DirectoryCheckpointIO().save_checkpoint(big, tmp_path / "step-000005")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-000004"]
    verify(path)
