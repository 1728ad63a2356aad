"""Names, order and shapes of every version's files, against the reference's manifests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.gpt_sovits.file_samples import GAN, SMALL_GPT, gpt_config, seeded
from tts_train.errors import DataError
from tts_train_gpt_sovits.networks.sovits.build import build_critics, build_flow_network, build_network
from tts_train_gpt_sovits.released import read_s1, read_s2, s2_config, write_critics, write_full, write_s1
from tts_train_gpt_sovits.released.shapes import (
    check_shapes,
    critic_shapes,
    generator_shapes,
    gpt_shapes,
    lora_shapes,
    shapes_of,
)
from tts_train_gpt_sovits.signal.versions import GptConfig
from tts_train_gpt_sovits.starts.sovits_base import TinySovitsOptions, tiny_sizes

MANIFESTS = Path(__file__).parent / "golden" / "manifests"


def manifest(name: str) -> list[tuple[str, tuple[int, ...]]]:
    content = json.loads((MANIFESTS / f"{name}.json").read_text(encoding="utf-8"))
    return [(key, tuple(shape)) for key, shape, _ in content["state_dict"]]


@pytest.mark.parametrize("version", [*GAN, "v3", "v4"])
def test_generators(version):
    assert list(generator_shapes(version).items()) == manifest(f"s2G_{version}")


@pytest.mark.parametrize(
    ("version", "name"),
    [("v1", "v1_v2"), ("v2", "v1_v2"), ("v2Pro", "v2Pro_v2ProPlus"), ("v2ProPlus", "v2Pro_v2ProPlus")],
)
def test_discriminators(version, name):
    assert list(critic_shapes(version).items()) == manifest(f"s2D_{name}")


@pytest.mark.parametrize(("version", "phonemes"), [("v1", 512), ("v2", 732)])
def test_text_to_semantic(version, phonemes):
    assert list(gpt_shapes(GptConfig(phonemes=phonemes)).items()) == manifest(f"s1_{version}")


@pytest.mark.parametrize("version", ["v3", "v4"])
def test_lora(version):
    assert list(lora_shapes(version, 32).items()) == manifest("s2G_v3v4_lora_rank32_export")


def test_a_lora_checkpoint_has_the_frozen_parts_too():
    shapes = lora_shapes("v4", 32, exported=False)
    assert len(shapes) == 861
    block = "cfm.base_model.model.estimator.transformer_blocks.21.attn"
    assert shapes[f"{block}.to_q.base_layer.weight"] == (1024, 1024)
    assert shapes[f"{block}.to_out.0.lora_B.default.weight"] == (1024, 32)


@pytest.mark.parametrize("version", ["v2", "v2ProPlus", "v3"])
def test_other_sizes_have_the_tensors_of_their_network(version):
    sizes = tiny_sizes(version, TinySovitsOptions(channels=12, layers=4))
    network = build_flow_network(version, sizes=sizes) if version == "v3" else build_network(version, sizes=sizes)
    assert list(generator_shapes(version, sizes).items()) == list(shapes_of(network).items())


@pytest.mark.parametrize("shrink", [4, 16])
def test_small_critics_have_the_tensors_of_their_network(shrink):
    expected = shapes_of(build_critics("v2Pro", shrink=shrink))
    assert list(critic_shapes("v2Pro", shrink=shrink).items()) == list(expected.items())


def test_files_are_read_and_written_without_a_network(tmp_path, monkeypatch):
    config = gpt_config(SMALL_GPT)
    sizes = tiny_sizes("v2", TinySovitsOptions())
    shapes = generator_shapes("v2", sizes)
    settings = {**s2_config("v2"), "model": sizes}
    generator, critics, gpt = tmp_path / "G.pth", tmp_path / "D.pth", tmp_path / "gpt.ckpt"

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr(torch.nn.Module, "__init__", refuse)
    write_s1(gpt, seeded(gpt_shapes(SMALL_GPT)), config=config, info="test")
    write_full(generator, seeded(shapes), version="v2", config=settings, info="test", shapes=shapes)
    write_critics(
        critics, seeded(critic_shapes("v2", shrink=16)), version="v2", info="", shapes=critic_shapes("v2", shrink=16)
    )
    assert read_s1(gpt).recognised.kind == "s1"
    assert read_s2(generator, shapes=shapes).recognised.version == "v2"
    assert read_s2(critics, shapes=critic_shapes("v2", shrink=16)).recognised.kind == "s2D"
    with pytest.raises(DataError, match="does not hold the tensors it should"):
        read_s2(generator)
    with pytest.raises(AssertionError, match="was built"):
        build_network("v2", sizes=sizes)


def test_faults_are_listed_by_name():
    good = generator_shapes("v2")
    bad = {**good, "dec.extra": (1,), "dec.cond.bias": (7,)}
    del bad["enc_p.proj.bias"], bad["enc_q.pre.bias"]
    with pytest.raises(DataError) as caught:
        check_shapes("x.pth", bad, good, omitted=("enc_q.",))
    message = str(caught.value)
    assert "3 differ" in message
    for fault in (
        "enc_p.proj.bias is missing",
        "dec.extra is unknown",
        "dec.cond.bias has shape (7,) instead of (512,)",
    ):
        assert fault in message
    assert "enc_q" not in message


def test_a_file_of_another_version_does_not_fit():
    with pytest.raises(DataError, match=r"sv_emb\.weight is missing"):
        check_shapes("x.pth", generator_shapes("v2"), generator_shapes("v2Pro"))
