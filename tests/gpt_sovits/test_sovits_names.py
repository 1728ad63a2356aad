"""Every tensor name and shape of the released files is produced and accepted, and what does not fit is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.gpt_sovits.sovits_tiny import tiny_network
from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.networks.sovits.build import build_critics, build_flow_network, build_network
from tts_train_gpt_sovits.released.sovits_names import (
    EXPORT_OMITS,
    LORA_TARGETS,
    load_upstream,
    to_upstream,
    upstream_name,
)
from tts_train_gpt_sovits.starts.adapters import trained_names

MANIFESTS = Path(__file__).parent / "golden" / "manifests"
CASES = [
    (build_network, "v1", "s2G_v1"),
    (build_network, "v2", "s2G_v2"),
    (build_network, "v2Pro", "s2G_v2Pro"),
    (build_network, "v2ProPlus", "s2G_v2ProPlus"),
    (build_flow_network, "v3", "s2G_v3"),
    (build_flow_network, "v4", "s2G_v4"),
    (build_critics, "v1", "s2D_v1_v2"),
    (build_critics, "v2", "s2D_v1_v2"),
    (build_critics, "v2Pro", "s2D_v2Pro_v2ProPlus"),
    (build_critics, "v2ProPlus", "s2D_v2Pro_v2ProPlus"),
]


def manifest(name):
    return json.loads((MANIFESTS / f"{name}.json").read_text())


@pytest.mark.parametrize(("build", "version", "name"), CASES)
def test_names_shapes_order_and_counts_are_the_released_ones(build, version, name):
    with torch.device("meta"):
        network = build(version)
    expected = manifest(name)
    got = [[key, list(tensor.shape), str(tensor.dtype)[6:]] for key, tensor in to_upstream(network).items()]
    assert got == expected["state_dict"]
    parameters = list(network.parameters())
    assert sum(each.numel() for each in parameters) == expected["n_params"]
    trainable = sum(each.numel() for each in parameters if each.requires_grad)
    assert trainable == expected["n_trainable_default"]
    buffers = {upstream_name(key) for key, _ in network.named_buffers()}
    assert buffers == set(expected["buffers"])


@pytest.mark.parametrize(("build", "version", "name"), CASES)
def test_released_weights_are_accepted(build, version, name):
    with torch.device("meta"):
        network = build(version)
    weights = {key: torch.empty(shape, device="meta") for key, shape, _ in manifest(name)["state_dict"]}
    assert load_upstream(network, weights) == []


@pytest.mark.parametrize("name", ["s2G_v1", "s2G_v2", "s2G_v2Pro", "s2G_v2ProPlus"])
def test_an_inference_file_leaves_out_what_the_released_ones_do(name):
    with torch.device("meta"):
        network = build_network(name.removeprefix("s2G_"))
    whole, exported = to_upstream(network), to_upstream(network, omit=EXPORT_OMITS)
    assert [key for key in whole if key not in exported] == manifest(name)["dropped_in_exported_weights"]
    assert load_upstream(network, exported, omitted=EXPORT_OMITS) == manifest(name)["dropped_in_exported_weights"]


def test_a_lora_file_holds_the_released_names():
    peft = pytest.importorskip("peft")
    expected = manifest("s2G_v3v4_lora_rank32_export")
    with torch.device("meta"):
        network = build_flow_network("v4")
        config = peft.LoraConfig(target_modules=LORA_TARGETS, r=32, lora_alpha=32)
        network.matching = peft.get_peft_model(network.matching, config)
    state = network.state_dict()
    assert len(state) == expected["n_full_state_dict"]
    got = [[upstream_name(key), list(state[key].shape), str(state[key].dtype)[6:]] for key in trained_names(network)]
    assert got == expected["state_dict"]


def test_weights_survive_the_way_out_and_in():
    source, target = tiny_network(seed=1), tiny_network(seed=2)
    assert load_upstream(target, to_upstream(source)) == []
    ours = target.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in source.state_dict().items())


def test_half_precision_weights_are_widened():
    source, target = tiny_network(seed=1), tiny_network(seed=2)
    load_upstream(target, {name: tensor.half() for name, tensor in to_upstream(source).items()})
    assert target.content_encoder.features.weight.dtype == torch.float32
    assert torch.equal(target.content_encoder.features.weight, source.content_encoder.features.weight.half().float())


def test_every_fault_is_named():
    network = tiny_network()
    weights = to_upstream(network)
    before = weights["enc_p.proj.bias"].clone()
    del weights["dec.conv_pre.bias"]
    weights["flow.flows.0.pre.bias"] = torch.zeros(3)
    weights["dec.surprise"] = torch.zeros(1)
    weights["enc_p.proj.bias"] = before + 1
    with pytest.raises(DataError) as caught:
        load_upstream(network, weights, omitted=EXPORT_OMITS)
    for said in ("dec.conv_pre.bias is missing", "flow.flows.0.pre.bias has shape (3,)", "dec.surprise is not part"):
        assert said in str(caught.value)
    assert torch.equal(to_upstream(network)["enc_p.proj.bias"], before)


def test_no_two_entries_share_a_released_name():
    for network in (tiny_network(speaker=True), build_on_meta(build_flow_network, "v3")):
        assert len(to_upstream(network)) == len(network.state_dict())


def build_on_meta(build, version) -> nn.Module:
    with torch.device("meta"):
        return build(version)


@pytest.mark.parametrize(
    ("build", "version"),
    [(build_network, "v3"), (build_critics, "v4"), (build_flow_network, "v2"), (build_network, "v5")],
)
def test_a_version_of_another_kind_is_refused(build, version):
    with pytest.raises(ConfigError, match=version):
        build(version)
