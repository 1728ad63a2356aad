"""Upstream's tensor names, shapes and configuration of stage 1 are produced and accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tts_train.errors import ConfigError
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.released.gpt_names import config_from_upstream, config_to_upstream, from_upstream, to_upstream
from tts_train_gpt_sovits.signal.versions import GptConfig

MANIFESTS = Path(__file__).parent / "golden" / "manifests"
TINY = GptConfig(phonemes=20, codes=17, width=16, heads=2, layers=2)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_version_has_the_tensors_of_its_manifest_in_their_order(version):
    manifest = json.loads((MANIFESTS / f"s1_{version}.json").read_text())
    config = config_from_upstream(manifest["config_model"])
    with torch.device("meta"):
        network = GptNetwork(config)
    state = network.state_dict()
    made = [[name, list(tensor.shape), "float32"] for name, tensor in to_upstream(state).items()]
    assert made == manifest["state_dict"]
    assert sum(parameter.numel() for parameter in network.parameters()) == manifest["n_params"]
    given = {name: torch.empty(shape, device="meta") for name, shape, _ in manifest["state_dict"]}
    assert list(from_upstream(given, state)) == list(state)
    assert config_to_upstream(config) == manifest["config_model"]


def test_parameters_are_registered_in_upstreams_order():
    # Optimiser states name parameters by their number.
    network = GptNetwork(TINY)
    assert [name for name, _ in network.named_parameters()] == list(network.state_dict())


def test_weights_go_out_and_come_back_with_or_without_the_prefix():
    state = GptNetwork(TINY).state_dict()
    out = to_upstream(state)
    for given in (out, {name.removeprefix("model."): tensor for name, tensor in out.items()}):
        back = from_upstream(given, state)
        assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_wrong_weights_are_refused_by_name():
    state = GptNetwork(TINY).state_dict()
    out = to_upstream(state)
    del out["model.bert_proj.bias"]
    out["model.extra"] = torch.zeros(1)
    out["model.ar_text_embedding.word_embeddings.weight"] = torch.zeros(21, 16)
    with pytest.raises(ConfigError) as refusal:
        from_upstream(out, state)
    text = str(refusal.value)
    assert "missing model.bert_proj.bias" in text
    assert "unknown model.extra" in text
    assert "model.ar_text_embedding.word_embeddings.weight is [21, 16] instead of [20, 16]" in text


@pytest.mark.parametrize(
    "change", [{"EOS": 5}, {"hidden_dim": 32}, {"n_layer": None}, {"head": 3}, {"n_layer": 0}], ids=str
)
def test_an_unusable_configuration_is_refused(change):
    with pytest.raises(ConfigError):
        config_from_upstream({**config_to_upstream(TINY), **change})


def test_a_configuration_without_a_field_is_refused_by_name():
    model = config_to_upstream(TINY)
    del model["vocab_size"]
    with pytest.raises(ConfigError, match="vocab_size"):
        config_from_upstream(model)
