"""Layers with fused kernels: the numbers of plain PyTorch, by every method; which kernels a run chooses."""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from torch.distributed.fsdp import fully_shard
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from tests.orpheus.batches import packed, padded, rows
from tests.orpheus.test_lora import Operators, adapted, step
from tests.orpheus.test_module import Data, module, one_process, trainer  # noqa: F401 - a fixture
from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.adapters import LoraOptions
from tts_train.families.token_lm.network.projections import project
from tts_train.nn import kernels
from tts_train.nn.devices import planning_for
from tts_train.nn.kernels.choice import choose_fused

METHODS = ("full", "lora", "qlora", "lora-8bit")
CPU = torch.device("cpu")


def distance(gradients, expected):
    """Greatest distance of a gradient from the expected one, as a share of its size."""
    return max(((gradients[name] - one).norm() / one.norm()).item() for name, one in expected.items())


def side(method, *, fused, dtype=torch.bfloat16, autocast=True, make=packed, **lora):
    net = adapted(method, dtype, **lora)
    if fused:
        net.use_fused_kernels()
        net.enable_checkpointing()
    return step(net, autocast=autocast, batch=make(rows()))[:2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [packed, padded])
def test_in_float32_the_numbers_are_the_same(method, make):
    options = {"dtype": torch.float32, "autocast": False, "make": make}
    (expected_loss, expected), (loss, gradients) = (side(method, fused=fused, **options) for fused in (False, True))
    assert loss == pytest.approx(expected_loss, rel=1e-7)
    assert distance(gradients, expected) < 2e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("dtype", "autocast"), [(torch.bfloat16, True), (torch.bfloat16, False), (torch.float32, True)]
)
@pytest.mark.slow
def test_in_half_precision_they_are_no_further_from_float32(method, dtype, autocast):
    """float32 over the same base is what both round: fused kernels may not be further from it than plain PyTorch."""
    truth = adapted(method, dtype).float() if method in ("full", "lora") else adapted(method, torch.float32)
    exact_loss, exact = step(truth, autocast=False)[:2]
    (plain_loss, plain), (loss, gradients) = (
        side(method, fused=fused, dtype=dtype, autocast=autocast) for fused in (False, True)
    )
    assert abs(loss - exact_loss) < max(2 * abs(plain_loss - exact_loss), 3e-3)
    assert distance(gradients, exact) < 1.25 * distance(plain, exact)
    assert distance(gradients, plain) < 0.04
    assert {name: one.dtype for name, one in gradients.items()} == {name: one.dtype for name, one in plain.items()}


@pytest.mark.parametrize("lora", [{"targets": ("q_proj", "v_proj")}, {"alpha": 8}, {"dropout": 0.5}, {"rslora": True}])
def test_every_kind_of_adapter(lora):
    sides = []
    for fused in (False, True):
        torch.manual_seed(0)
        sides.append(side("lora", fused=fused, dtype=torch.float32, autocast=False, **lora))
    # Two of float32's steps: one, 1.2e-7, is less than some processors' products are apart.
    assert sides[1][0] == pytest.approx(sides[0][0], rel=2.4e-7)
    assert distance(sides[1][1], sides[0][1]) < 4e-6


@pytest.mark.slow
def test_kernels_in_triton_s_interpreter_train_every_method():
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "tests.orpheus.fused_step", *METHODS]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [method for method, *_ in results] == list(METHODS)
    for _, ran, loss, apart in results:
        # Two layers, each computed again in backward; the norm at the end is not.
        assert ran["add_rms_norm"] == ran["swiglu"] == 4
        assert ran["rms_norm"] == ran["rms_norm_backward"] == 5
        assert ran["swiglu_backward"] == 2
        assert ran["rope"] == 6
        assert ran["cross_entropy"] == 1
        assert loss < 1e-5
        assert apart < 1e-5


@pytest.mark.parametrize("method", ["lora", "qlora", "lora-8bit"])
def test_adapters_take_no_pass_but_their_products(method):
    attention = adapted(method, torch.float32, alpha=8).lm.model.layers[0].self_attn
    states = torch.randn(5, 64, requires_grad=True)
    with Operators() as operators:
        made = project(states, attention.q_proj, attention.k_proj, attention.v_proj)
        sum(one.sum() for one in made).backward()
    count = operators.count
    # Forward each has x A^T and the one added into the base's. Backward: two products for the adapter's gradients and
    # one between; two for the input's, all but the first added to it.
    assert count["aten::addmm_"] == 3 + 5
    assert count["aten::mm"] == (6 if method != "qlora" else 3) + 3 * 3 + 1
    passes = {"aten::mul.Tensor", "aten::clone", "aten::copy_"} if method == "lora" else {"aten::clone"}
    assert not passes & set(count)
    assert count["aten::add.Tensor"] == 3  # the sums above


def test_names_weights_and_generation_stay():
    net, ids = adapted("lora"), rows()[0][None]
    names, classes = list(net.state_dict()), {type(layer).__name__ for layer in net.lm.model.layers}
    expected = net.eval().lm(ids, use_cache=True)
    net.use_fused_kernels()
    assert list(net.state_dict()) == names
    assert {type(layer).__name__ for layer in net.lm.model.layers} == classes
    assert all(isinstance(layer, LlamaDecoderLayer) for layer in net.lm.model.layers)
    found = net.lm(ids, use_cache=True)
    assert torch.equal(found.logits, expected.logits)
    following = [net.lm(ids[:, -1:], past_key_values=one.past_key_values).logits for one in (found, expected)]
    assert torch.equal(*following)


def test_another_activation_has_no_kernel():
    net = adapted("full")
    net.config.hidden_act = "gelu"
    with pytest.raises(ConfigError, match=r"--model\.kernels fused is for networks with SiLU"):
        net.use_fused_kernels()


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_asks_the_host_for_nothing_about_positions(fused):
    net = adapted("lora")
    if fused:
        net.use_fused_kernels()
    count = step(net, batch=packed(rows()))[2]
    assert count["aten::all"] == 0
    assert count["aten::_local_scalar_dense"] == 0


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_sharded_layers_are_the_same(method):
    nets = [adapted(method, torch.float32) for _ in range(2)]
    for net in nets:
        net.use_fused_kernels()
    for layer in nets[1].lm.model.layers:
        fully_shard(layer)
    fully_shard(nets[1])
    (expected_loss, expected, _), (loss, gradients, _) = (step(net, autocast=False) for net in nets)
    assert loss == expected_loss
    for name, one in expected.items():
        torch.testing.assert_close(gradients[name].full_tensor(), one)


def test_activations_may_wait_in_host_memory(monkeypatch):
    monkeypatch.setattr("tts_train.nn.activations.SMALLEST_BYTES", 1)
    results = []
    for offload in (False, True):
        net = adapted("lora")
        net.use_fused_kernels()
        net.offload_activations = offload
        results.append(step(net)[:2])
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[1][1][name], one) for name, one in results[0][1].items())


def test_eight_bits_keep_no_input_and_read_nothing_on_the_host():
    net = adapted("lora-8bit")
    net.enable_checkpointing()
    inputs = []
    for layer in net.lm.model.layers:
        for linear in layer.modules():
            if hasattr(linear, "matrix"):
                linear.register_forward_pre_hook(lambda _, given: inputs.append(weakref.ref(given[0])))
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(packed(rows())).loss
    gc.collect()
    assert len(inputs) == 7 * len(net.lm.model.layers)
    assert [ref for ref in inputs if ref() is not None] == []
    loss.backward()
    linear = net.lm.model.layers[0].self_attn.q_proj.base_layer
    states = torch.randn(5, 64, requires_grad=True)
    matrix = linear.weight.data.float() * linear.weight.SCB[:, None] / 127
    torch.testing.assert_close(linear(states), states @ matrix.T)
    linear(states).sum().backward()
    torch.testing.assert_close(states.grad, matrix.sum(0).expand(5, -1))


def test_auto_is_eager_on_a_cpu_and_says_so(tmp_path, caplog):
    model, run = module("lora", lora=LoraOptions(rank=4)), trainer(tmp_path, steps=1)
    with caplog.at_level(logging.INFO):
        run.fit(model, datamodule=Data())
    assert "--model.kernels auto: eager, plain PyTorch, since the kernels are for CUDA GPUs" in caplog.text
    assert {type(layer) for layer in model.network.lm.model.layers} == {LlamaDecoderLayer}


def test_what_cannot_run_is_refused_with_what_can(caplog, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ConfigError, match=r"on cpu\. Give --model\.kernels auto or eager"):
        choose_fused("fused", CPU)
    with pytest.raises(ConfigError, match=r"one of auto, eager, fused, and 'fast'"):
        choose_fused("fast", CPU)
    with caplog.at_level(logging.INFO), planning_for("cuda"):
        assert choose_fused("auto", CPU)
        assert not choose_fused("eager", CPU)
    assert "--model.kernels auto: fused Triton kernels." in caplog.text
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    kernels.triton_lacks.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"Triton is not installed \(pip install triton\)"):
            choose_fused("fused", torch.device("cuda"))
    finally:
        kernels.triton_lacks.cache_clear()
