"""Products in 8-bit floats: what is computed, what stays, and what is refused. A CPU emulates them."""

from __future__ import annotations

import copy
import shutil
import sys

import pytest
import torch
from torch import nn

from tts_train.errors import ConfigError
from tts_train.nn.devices import planning_for
from tts_train.nn.float8 import Float8Options, use_float8

CPU = torch.device("cpu")
RECIPES = ("tensorwise", "rowwise", "rowwise_with_gw_hp")
LARGEST = {torch.float8_e4m3fn: 448.0, torch.float8_e5m2: 57344.0}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32, bias=False), nn.Linear(32, 64), nn.Linear(64, 10)).to(torch.bfloat16)


def converted(recipe, **options):
    net = network()
    assert use_float8(net, Float8Options(recipe, **options), device=CPU, precision="bf16-true") == 2
    return net


def rounded(values, kind, dim=None):
    """Return values as 8 bits hold them, with one scale for all or for each row along ``dim``."""
    wide = values.to(torch.float64)
    largest = wide.abs().max() if dim is None else wide.abs().amax(dim, keepdim=True)
    scale = LARGEST[kind] / largest
    if dim is not None:
        scale = 2 ** scale.log2().floor()
    return (wide * scale).float().to(kind).double() / scale


def test_a_product_is_that_of_rounded_operands():
    x = torch.randn(37, 64, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    for recipe, dim in (("tensorwise", None), ("rowwise", -1)):
        net = converted(recipe)
        weight = net[0].weight.detach()
        expected = rounded(x, torch.float8_e4m3fn, dim) @ rounded(weight, torch.float8_e4m3fn, dim).T
        exact, found = x.double() @ weight.double().T, net[0](x).double()
        # What is left is bfloat16's: the CPU multiplies the rounded numbers in it.
        assert (found - expected).norm() < 0.25 * (exact - expected).norm(), recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_gradients_are_near_those_without_and_weights_stay(recipe):
    plain, net = network(), converted(recipe)
    assert net.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(37, 64, dtype=torch.bfloat16)
    for each in (plain, net):
        each(x).float().pow(2).mean().backward()
    for (name, found), expected in zip(net.named_parameters(), plain.parameters(), strict=True):
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, expected)
        apart = (found.grad - expected.grad).float().norm() / expected.grad.float().norm()
        assert 0 < apart < 0.15, name
    assert type(net[2]) is nn.Linear  # of 10 outputs, which the kernels do not take


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
def test_compiled_layers_give_the_same(recwarn):
    gradients = []
    for compiled in (False, True):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(32, 32, bias=False)).to(torch.bfloat16)
        use_float8(net, Float8Options("tensorwise", compile=compiled), device=CPU, precision="bf16-true")
        for tokens in (37, 64):
            net(torch.randn(tokens, 32, dtype=torch.bfloat16)).float().pow(2).mean().backward()
        gradients.append(net[0].weight.grad.float())
    # A compiled emulation leaves out roundings to bfloat16 on the way.
    assert (gradients[1] - gradients[0]).norm() < 0.01 * gradients[0].norm()
    assert not [warning for warning in recwarn if "recompile_limit" in str(warning.message)]


def test_a_copy_computes_the_same():
    net, x = converted("rowwise"), torch.randn(16, 64, dtype=torch.bfloat16)
    assert torch.equal(copy.deepcopy(net)(x), net(x))


def test_what_cannot_be_is_refused_with_what_can(monkeypatch):
    def refused(recipe="rowwise", net=None, precision="bf16-mixed", device="cpu"):
        with pytest.raises(ConfigError) as caught:
            use_float8(net or network(), Float8Options(recipe), device=torch.device(device), precision=precision)
        return str(caught.value)

    assert "--trainer.precision bf16-mixed or bf16-true, and 16-mixed was given" in refused(precision="16-mixed")
    assert "multiples of 16" in refused(net=nn.Sequential(nn.Linear(10, 10)))
    with pytest.raises(ConfigError, match="is one of off, tensorwise"):
        Float8Options("int8")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torchao.float8", None)
        assert "pip install 'tts-train[fp8]'" in refused()
    assert "no kernels on mps. Leave it out" in refused(device="mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 9))
    assert "NVIDIA L4 has 8.9. It can do: tensorwise." in refused(device="cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 6))
    assert "Leave it out" in refused("tensorwise", device="cuda")
    with planning_for("cuda"):  # for another card than this one
        assert use_float8(network(), Float8Options("rowwise"), device=CPU, precision="bf16-true") == 2
    assert use_float8(network(), Float8Options("rowwise"), device=CPU, precision="bf16-true") == 2
