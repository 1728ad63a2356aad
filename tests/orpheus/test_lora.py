"""Adapters in half precision: what is cast, and that fewer casts change no bit."""

from __future__ import annotations

from collections import Counter

import lightning
import pytest
import torch
from peft.tuners.lora import LoraLayer
from torch.utils._python_dispatch import TorchDispatchMode

from tests.orpheus.batches import packed, rows
from tests.orpheus.family import OrpheusNetwork, load_base
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, trainable_parameters
from tts_train.families.token_lm.network.network import HeadOptions
from tts_train.families.token_lm.network.projections import adapter_copies, project
from tts_train_orpheus.stage import OrpheusModule


class Operators(TorchDispatchMode):
    """Counts operators by name."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[func.name()] += 1
        return func(*args, **(kwargs or {}))


def adapted(method="lora", dtype=torch.bfloat16, **lora):
    """A network that is trained by ``method``; adapters are not zero."""
    net = OrpheusNetwork(load_base("tiny", dtype=dtype), HeadOptions(chunk_tokens=64)).train()
    if method == "full":
        return net
    apply_method(net, method, LoraOptions(**{"rank": 8, "alpha": 16, **lora}))
    generator = torch.Generator().manual_seed(0)
    for parameter in trainable_parameters(net).values():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return net


def step(net, *, autocast=True, batch=None):
    """Loss, gradients by name and operators of one step."""
    with Operators() as operators:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = net(packed(rows()) if batch is None else batch).loss
        loss.backward()
    return loss.item(), {name: p.grad for name, p in trainable_parameters(net).items()}, operators.count


@pytest.mark.parametrize("method", ["lora", "qlora", "lora-8bit"])
@pytest.mark.parametrize("recompute", [False, True])
def test_inputs_left_to_autocast_change_no_bit(method, recompute):
    nets = [adapted(method), adapted(method)]
    for layer in nets[0].modules():
        if isinstance(layer, LoraLayer):
            del layer._cast_input_dtype  # PEFT's own
    if recompute:
        for net in nets:
            net.enable_checkpointing()
    (before, expected, casts_before), (loss, gradients, casts) = map(step, nets)
    assert loss == before
    assert gradients
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)
    # Seven adapters a layer, each with a cast up and one down, forward and backward; the first three inputs need no
    # gradient.
    saved = casts_before["aten::_to_copy"] - casts["aten::_to_copy"]
    assert saved >= 7 * len(nets[0].lm.model.layers) * 4 - 3 * 2


def test_without_autocast_and_with_dropout_peft_casts():
    _, gradients, _ = step(adapted(), autocast=False)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    assert all(gradient.any() for gradient in gradients.values())
    layer = next(layer for layer in adapted(dropout=0.5).modules() if isinstance(layer, LoraLayer))
    assert "_cast_input_dtype" not in vars(layer)


def test_adapters_are_the_same_whatever_device_is_the_default():
    lm = load_base("tiny")
    with torch.device("meta"):
        net = OrpheusNetwork(lm)
        apply_method(net, "lora", LoraOptions(rank=8, alpha=16))
    expected = OrpheusNetwork(load_base("tiny"))
    apply_method(expected, "lora", LoraOptions(rank=8, alpha=16))
    for name, parameter in trainable_parameters(expected).items():
        assert torch.equal(parameter, trainable_parameters(net)[name]), name


@pytest.mark.parametrize(
    ("precision", "method", "expected"),
    [
        ("16-mixed", "lora", torch.float16),
        ("16-mixed", "full", torch.float32),
        ("16-true", "full", torch.float16),
        ("bf16-mixed", "qlora", torch.bfloat16),
        ("bf16-mixed", "full", torch.float32),
        ("bf16-true", "full", torch.bfloat16),
        ("32-true", "lora", torch.float32),
    ],
)
def test_the_base_is_loaded_in_the_precision_s_half_type(precision, method, expected, monkeypatch):
    # Lightning turns 16-mixed into bf16-mixed on a machine without a GPU.
    monkeypatch.setattr(lightning.Trainer, "precision", property(lambda _: precision))
    model = OrpheusModule("tiny", method=method)
    model.trainer = lightning.Trainer(accelerator="cpu", logger=False)
    assert model._load_dtype() == expected


def test_four_bits_over_float16_compute_in_float16():
    net = adapted("qlora", torch.float16)
    layer = net.lm.model.layers[0].self_attn.q_proj
    assert layer.base_layer.compute_dtype == torch.float16
    assert net.lm.model.embed_tokens.weight.dtype == torch.float16
    assert layer.lora_A["default"].weight.dtype == torch.float32


def test_adapters_of_a_layer_are_cast_at_once():
    attention = adapted("lora").lm.model.layers[0].self_attn
    linears = (attention.q_proj, attention.k_proj, attention.v_proj)
    states = torch.randn(5, 64).bfloat16().requires_grad_()
    with Operators() as forward, torch.autocast("cpu", torch.bfloat16):
        made = project(states, *linears, copies=adapter_copies(linears, "cpu"))
    assert forward.count["aten::_foreach_copy_"] == 1
    assert forward.count["aten::_to_copy"] == 0
    with Operators() as backward:
        torch.autograd.backward(made, [torch.ones_like(one) for one in made])
    # The gradients alone: a card's products write them in float32.
    assert backward.count["aten::_to_copy"] == 2 * len(linears)
    assert {one.lora_A["default"].weight.grad.dtype for one in linears} == {torch.float32}
