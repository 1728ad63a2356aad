"""Names, order and shapes of every version's files, against the reference's manifests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gpt_sovits.file_samples import GAN
from tts_train.errors import DataError
from tts_train_gpt_sovits.networks.gpt.network import GptConfig
from tts_train_gpt_sovits.released.shapes import check_shapes, critic_shapes, generator_shapes, gpt_shapes, lora_shapes

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
