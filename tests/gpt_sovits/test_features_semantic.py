"""Semantic tokens: those of the whole SoVITS network, from any file that holds its quantizer."""

from __future__ import annotations

import pytest
import torch

from tests.gpt_sovits.file_samples import TOLD_BY_SIZE, save
from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.features.semantic import PARTS, SemanticTokens, quantizer_fingerprint, tiny_tokenizer
from tts_train_gpt_sovits.networks.sovits.build import build_network
from tts_train_gpt_sovits.released.shapes import critic_shapes, generator_shapes
from tts_train_gpt_sovits.released.sovits_names import load_upstream

MARKS = {"v1": b"PK", "v2": b"PK", "v2Pro": b"05", "v3": b"02"}


def released(version: str) -> dict[str, torch.Tensor]:
    """A file's tensors: those that make tokens are whole, of the others at most two entries an axis."""
    generator = torch.Generator().manual_seed(4)
    weights = {}
    for name, shape in generator_shapes(version).items():
        small = tuple(min(size, 2) for size in shape)
        kept = shape if name.startswith(PARTS) else (shape[0], *small[1:]) if name in TOLD_BY_SIZE else small
        weights[name] = torch.randn(kept, generator=generator) / (max(kept, default=1) ** 0.5)
    return weights


def test_the_tokens_of_the_whole_network(tmp_path):
    network = build_network("v2").eval()
    weights = {name: tensor for name, tensor in released("v2").items() if name.startswith(PARTS)}
    whole = {**{name: torch.zeros(shape) for name, shape in generator_shapes("v2").items()}, **weights}
    load_upstream(network, whole)
    features = torch.randn(2, 31, 768, generator=torch.Generator().manual_seed(5))
    expected = network.codes(features.transpose(1, 2))
    path = save(tmp_path / "s2G.pth", {"weight": released("v2")})
    found = SemanticTokens.load(str(path)).encode(list(features))
    assert found[0].dtype == torch.int64
    assert torch.equal(torch.stack(found), expected)
    assert len(expected.unique()) > 10


@pytest.mark.parametrize("version", MARKS)
def test_every_version_is_read_by_its_names(tmp_path, version):
    weights = released(version)
    path = save(tmp_path / "file.pth", {"weight": weights}, mark=MARKS[version])
    tokens = SemanticTokens.load(str(path))
    assert torch.equal(tokens.network.feature_projection.weight, weights["ssl_proj.weight"])
    assert tokens.fingerprint == quantizer_fingerprint(weights)


def test_the_fingerprint_is_of_what_decides_tokens():
    weights = released("v2")
    name = quantizer_fingerprint(weights)
    other = {
        **weights,
        "dec.conv_pre.weight": torch.zeros(1),
        "quantizer.vq.layers.0._codebook.cluster_size": torch.ones(1),
    }
    assert quantizer_fingerprint(other) == name
    moved = weights["quantizer.vq.layers.0._codebook.embed"].clone()
    moved[1023, 767] += 1e-2
    assert quantizer_fingerprint({**weights, "quantizer.vq.layers.0._codebook.embed": moved}) != name


def test_tiny_is_the_same_everywhere():
    tokens = SemanticTokens.load("tiny")
    # Drawn on the CPU by torch's own generator, so this holds on every machine.
    assert tokens.fingerprint == SemanticTokens(tiny_tokenizer()).fingerprint == "7b0f449c545ae5ffb24be7c6216a5d6d"


def test_files_without_a_codebook(tmp_path):
    critics = save(tmp_path / "s2D.pth", {"weight": {n: torch.zeros(1) for n in critic_shapes("v2")}})
    with pytest.raises(DataError, match="is s2D of v2; semantic tokens need a SoVITS generator"):
        SemanticTokens.load(str(critics))
    weights = released("v2")
    weights.pop("ssl_proj.bias")
    lacking = save(tmp_path / "s2G.pth", {"weight": weights})
    with pytest.raises(DataError, match=r"ssl_proj\.bias is missing"):
        SemanticTokens.load(str(lacking))
    with pytest.raises(ConfigError, match="v2ProPlus"):
        SemanticTokens.load("v9")
    with pytest.raises(DataError, match=r"features \(1, 768\)"):
        SemanticTokens.load("tiny").encode([torch.zeros(1, 768)])
