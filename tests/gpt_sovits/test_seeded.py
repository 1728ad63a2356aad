"""Networks of chance and adapters are drawn on the CPU, whatever the default device, and move no random stream."""

from __future__ import annotations

import pytest
import torch

from tts_train_gpt_sovits.stages.gpt.module import GptModule
from tts_train_gpt_sovits.stages.sovits.cfm_module import CfmModule
from tts_train_gpt_sovits.starts.adapters import GptLoraOptions, adapt_estimator, adapt_gpt
from tts_train_gpt_sovits.starts.gpt import load_base
from tts_train_gpt_sovits.starts.sovits_base import base_critics, base_generator


def gpt_lora():
    network = load_base("tiny")
    adapt_gpt(network, GptLoraOptions())
    return network


def cfm_lora():
    network = base_generator("tiny", version="v4").network
    adapt_estimator(network, 4)
    return network


MADE = {
    "gpt": lambda: load_base("tiny"),
    "gpt, lora": gpt_lora,
    "sovits": lambda: base_generator("tiny", version="v2").network,
    "critics": lambda: base_critics("tiny", version="v2").network,
    "fresh critics": lambda: base_critics("fresh", version="v2", shrink=16).network,
    "cfm, lora": cfm_lora,
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_drawn_does_not_depend_on_the_default_device(name):
    plain = MADE[name]().state_dict()
    before = torch.random.get_rng_state()
    with torch.device("meta"):
        other = MADE[name]().state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert plain.keys() == other.keys()
    assert {tensor.device.type for tensor in other.values()} == {"cpu"}
    assert all(torch.equal(tensor, plain[name]) for name, tensor in other.items())


@pytest.mark.parametrize(
    "module", [GptModule(init_from="v2", method="lora"), CfmModule(init_from="v4")], ids=["gpt", "cfm"]
)
def test_shapes_without_files_get_adapters_without_memory(module):
    module.configure_shapes()
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    assert any("lora_" in name for name, _ in module.named_parameters())
