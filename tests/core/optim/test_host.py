"""States outside the card: host memory without gaps, a bounded ring on the device, and paged states that stay paged."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from lightning.fabric.utilities.optimizer import _optimizer_to_device
from torch import nn

from tts_train.memory.step.shapes import Shapes
from tts_train.nn.devices import planning_for
from tts_train.optim import OptimizerOptions
from tts_train.optim.build import build_optimizer
from tts_train.optim.streamed import host
from tts_train.optim.streamed.optimizer import PIECE

# Elements of the 3.3 B model's parameters, by 64: embedding, then of each layer what is attended with and the MLP.
SIZES = [156_940 * 48, *[3072 * 48, 1024 * 48, 1024 * 48, 3072 * 48, 8192 * 48, 8192 * 48, 8192 * 48, 48, 48] * 28]


def test_many_tensors_share_few_chunks(monkeypatch):
    monkeypatch.setattr(host, "CHUNK", host.CHUNK // 64)
    wanted = sum(2 * size for size in SIZES)
    arena = host.HostArena(wanted, pinned=False)
    made = [arena.zeros(size, torch.uint8) for size in SIZES for _ in range(2)]
    assert arena.nbytes <= 1.06 * wanted
    each_rounded_up = sum(2 * (1 << (size - 1).bit_length()) for size in SIZES)
    assert each_rounded_up > 1.15 * wanted
    for place, tensor in enumerate(made):
        assert tensor.data_ptr() % 64 == 0
        tensor.fill_(place % 251)
    assert all(bool((tensor == place % 251).all()) for place, tensor in enumerate(made))


def test_types_and_what_is_there_already():
    arena = host.HostArena(5000, pinned=False)
    one, two, three = (
        arena.zeros(size, kind) for size, kind in ((3, torch.float32), (700, torch.uint8), (9, torch.uint8))
    )
    one.fill_(1.0)
    two.fill_(255)
    torch.save([one, two, three], io.BytesIO())  # refuses memory that is of two types
    assert three.untyped_storage().data_ptr() == two.untyped_storage().data_ptr()
    late = arena.zeros(10_000, torch.float32)  # more than was expected
    assert one.tolist() == [1.0] * 3
    assert not late.any()
    assert arena.nbytes == 8192 + 8192 + 65536


@pytest.mark.parametrize("name", ["adamw8bit", "adamw"])
def test_a_plan_counts_three_pieces_whatever_the_parameters(name):
    net = nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(3))).to(torch.bfloat16)
    shapes = Shapes()
    shapes.module(net)
    copies = []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if str(func).startswith("tts_train.left_out"):
                copies.append(sum(t.numel() * t.element_size() for t in (*args[1], *args[2])))
            return func(*args, **(kwargs or {}))

    with planning_for("cuda"):
        optimizer = build_optimizer(net, OptimizerOptions(name, offload=True, rounding="stochastic"))
        for parameter in net.parameters():
            parameter.grad = torch.empty_like(parameter)
        with Seen():
            optimizer.step()
        arena, ring = optimizer._places_for_states
    piece = PIECE * (8 if name == "adamw" else 2) + (0 if name == "adamw" else 2 * 4 * PIECE // 256)
    assert [buffer.numel() for buffer in ring._buffers] == [piece] * 3
    assert copies == [piece] * (3 * 4096**2 // PIECE * 2)
    assert arena.nbytes == 0


def train(net, optimizer, steps):
    for step in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 400, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()


@pytest.fixture
def paged(monkeypatch):
    """Mark what would be in managed memory on a card, as bitsandbytes does."""
    import bitsandbytes

    def buffer(self, p, dtype=torch.float32):
        made = torch.zeros_like(p, dtype=dtype)
        made.is_paged = p.numel() >= 1e5
        return made

    monkeypatch.setattr(bitsandbytes.optim.optimizer.Optimizer8bit, "get_state_buffer", buffer)
    monkeypatch.setattr(bitsandbytes.functional, "prefetch_tensor", lambda *_, **__: None)


def test_paged_states_are_paged_again_and_stay(paged):
    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(400, 300), nn.Tanh(), nn.Linear(300, 20))

    options = OptimizerOptions("paged_adamw8bit", lr=1e-2)
    through, half = net(), net()
    train(through, build_optimizer(through, options), 5)
    optimizer = build_optimizer(half, options)
    train(half, optimizer, 2)
    saved, again = copy.deepcopy(optimizer.state_dict()), net()
    again.load_state_dict(half.state_dict())
    fresh = build_optimizer(again, options)
    fresh.load_state_dict(saved)
    large = fresh.state[again[0].weight]
    assert [large[name].is_paged for name in ("state1", "state2")] == [True, True]
    before = {name: id(value) for name, value in large.items()}
    # The trainer moves every state to the card, which makes copies: there is none here, so ``meta`` stands for it.
    _optimizer_to_device(fresh, torch.device("meta"))
    assert [id(large[name]) for name in ("state1", "state2")] == [before["state1"], before["state2"]]
    assert large["absmax1"].is_meta
    fresh.load_state_dict(saved)
    for step in (2, 3, 4):
        fresh.zero_grad()
        again(torch.randn(4, 400, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        fresh.step()
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), through.parameters(), strict=True))


@pytest.mark.gpu
def test_paged_states_stay_paged_on_a_card():
    net = nn.Linear(1024, 1024, device="cuda")
    optimizer = build_optimizer(net, OptimizerOptions("paged_adamw8bit"))
    net.weight.grad = torch.randn_like(net.weight)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    fresh = build_optimizer(net, OptimizerOptions("paged_adamw8bit"))
    fresh.load_state_dict(saved)
    _optimizer_to_device(fresh, torch.device("cuda"))
    torch.cuda.synchronize()
    for name in ("state1", "state2"):
        mine, theirs = fresh.state[net.weight][name], optimizer.state[net.weight][name]
        assert mine.is_paged
        assert torch.equal(mine, theirs)
    fresh.step()
