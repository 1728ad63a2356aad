"""Weights files go out as upstream reads them and come back as they were."""

from __future__ import annotations

import io
import sys
import types

import pytest
import torch

from tests.gpt_sovits.file_samples import GAN, SMALL_GPT, gpt_config, save, seeded, shrunk
from tts_train.errors import ConfigError, DataError, DiskError, NumericError
from tts_train_gpt_sovits.released import (
    read_s1,
    read_s2,
    s1_config,
    s2_config,
    write_critics,
    write_full,
    write_s1,
    write_s2,
)
from tts_train_gpt_sovits.released.gpt_names import config_to_upstream
from tts_train_gpt_sovits.released.shapes import critic_shapes, generator_shapes, gpt_shapes, lora_shapes
from tts_train_gpt_sovits.signal.versions import GptConfig

MARKS = {"v1": b"PK", "v2": b"PK", "v2Pro": b"05", "v2ProPlus": b"06"}
INFO = "8epoch_120iteration"


def load_as_upstream(path):
    """Restore the signature in memory and load, as upstream's inference does, but for the code that it would run."""
    content = path.read_bytes()
    return torch.load(io.BytesIO(b"PK" + content[2:]), map_location="cpu", weights_only=True)


def assert_halves(ours, weights):
    assert list(ours) == list(weights)
    for name, tensor in weights.items():
        assert ours[name].dtype == torch.float16
        assert torch.equal(ours[name], tensor.half()), name


@pytest.mark.parametrize("version", GAN)
def test_generators_for_inference(tmp_path, version):
    shapes = shrunk(generator_shapes(version))
    weights = seeded(shapes)
    path = tmp_path / "out" / "voice_e8_s120.pth"
    write_s2(path, weights, version=version, config=s2_config(version), info=INFO, shapes=shapes)
    spoken = {name: tensor for name, tensor in weights.items() if not name.startswith("enc_q.")}
    assert len(spoken) == (678 if "Pro" in version else 673)
    assert path.read_bytes()[:2] == MARKS[version]
    upstream = load_as_upstream(path)
    assert set(upstream) == {"weight", "config", "info"}
    assert upstream["info"] == INFO
    assert upstream["config"]["model"]["version"] == version
    assert_halves(upstream["weight"], spoken)
    read = read_s2(path, shapes=shapes)
    assert_halves(read.weights, spoken)
    assert (read.recognised.version, read.recognised.complete, read.info) == (version, False, INFO)
    assert read.config == upstream["config"]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("version", ["v3", "v4"])
def test_lora_for_inference(tmp_path, version):
    shapes = {name: tuple(min(size, 2) for size in shape) for name, shape in lora_shapes(version, 2).items()}
    weights = seeded(shapes)
    path = tmp_path / "voice_e2_s40_l2.pth"
    write_s2(path, weights, version=version, config=s2_config(version), info=INFO, lora_rank=2, shapes=shapes)
    assert path.read_bytes()[:2] == {"v3": b"03", "v4": b"04"}[version]
    upstream = load_as_upstream(path)
    assert upstream["lora_rank"] == 2
    assert_halves(upstream["weight"], weights)
    read = read_s2(path, shapes=shapes)
    assert (read.recognised.kind, read.recognised.version, read.recognised.rank) == ("lora", version, 2)
    assert_halves(read.weights, weights)


@pytest.mark.parametrize("version", [*GAN, "v3", "v4"])
def test_full_files_can_be_trained_further(tmp_path, version):
    shapes = shrunk(generator_shapes(version))
    weights = seeded(shapes)
    path = tmp_path / "base.pth"
    write_full(path, weights, version=version, config=s2_config(version), info=INFO, shapes=shapes)
    assert_halves(torch.load(path, weights_only=True)["weight"], weights)
    read = read_s2(path, shapes=shapes)
    assert (read.recognised.version, read.recognised.complete) == (version, True)
    assert_halves(read.weights, weights)
    write_full(path, weights, version=version, config=s2_config(version), info=INFO, shapes=shapes, dtype=torch.float32)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read_s2(path, shapes=shapes).weights.items())


@pytest.mark.parametrize("version", GAN)
def test_discriminators(tmp_path, version):
    shapes = shrunk(critic_shapes(version))
    weights = seeded(shapes)
    write_critics(tmp_path / "s2D.pth", weights, version=version, info=INFO, shapes=shapes)
    read = read_s2(tmp_path / "s2D.pth", shapes=shapes)
    assert (read.recognised.kind, read.recognised.version) == ("s2D", version)
    assert_halves(read.weights, weights)


@pytest.mark.parametrize("phonemes", [512, 732])
def test_text_to_semantic(tmp_path, phonemes):
    config = GptConfig(phonemes=phonemes, width=32, heads=2, layers=2)
    weights = seeded(gpt_shapes(config))
    settings = s1_config(config_to_upstream(config))
    path = tmp_path / "voice-e15.ckpt"
    write_s1(path, weights, config=settings, info="GPT-e15")
    upstream = torch.load(path, weights_only=True)
    assert set(upstream) == {"weight", "config", "info"}
    assert upstream["config"]["data"]["max_sec"] == 54
    assert_halves(upstream["weight"], weights)
    read = read_s1(path)
    assert (read.config, read.info) == (settings, "GPT-e15")
    assert read.recognised.version == {512: "v1", 732: "v2"}[phonemes]
    assert_halves(read.weights, weights)


@pytest.mark.slow
def test_a_voice_of_the_released_size(tmp_path):
    weights = seeded(generator_shapes("v2"))
    write_s2(tmp_path / "v.pth", weights, version="v2", config=s2_config("v2"), info=INFO)
    read = read_s2(tmp_path / "v.pth")
    assert len(read.weights) == 673
    # Upstream takes it for v1 or v2 by its size; its phoneme table then decides.
    assert read.recognised.taken_for in ("v1", "v2")
    assert (tmp_path / "v.pth").stat().st_size > 82_000_000


def test_a_pickled_configuration_of_upstreams(tmp_path, monkeypatch):
    module = types.ModuleType("utils")

    class HParams:
        def __init__(self, **values):
            for name, value in values.items():
                setattr(self, name, HParams(**value) if isinstance(value, dict) else value)

    HParams.__module__, HParams.__qualname__ = "utils", "HParams"
    module.HParams = HParams
    monkeypatch.setitem(sys.modules, "utils", module)
    config = s2_config("v2Pro")
    shapes = shrunk(generator_shapes("v2Pro"))
    path = save(tmp_path / "a.pth", {"weight": seeded(shapes), "config": HParams(**config), "info": INFO}, b"05")
    monkeypatch.delitem(sys.modules, "utils")
    assert read_s2(path, shapes=shapes).config == config


def test_missing_and_wrong_tensors_are_named_and_nothing_is_written(tmp_path):
    shapes = shrunk(generator_shapes("v2"))
    weights = seeded(shapes)
    del weights["dec.conv_pre.bias"]
    weights["enc_p.proj.bias"] = torch.zeros(9)
    with pytest.raises(DataError, match=r"dec\.conv_pre\.bias is missing(.|\n)*enc_p\.proj\.bias has shape \(9,\)"):
        write_s2(tmp_path / "a.pth", weights, version="v2", config=s2_config("v2"), info="", shapes=shapes)
    assert not list(tmp_path.iterdir())
    path = save(tmp_path / "b.pth", {"weight": weights})
    with pytest.raises(DataError, match=r"dec\.conv_pre\.bias is missing"):
        read_s2(path, shapes=shapes)


def test_what_is_not_finite_in_half_precision_is_not_written(tmp_path):
    weights = seeded(gpt_shapes(SMALL_GPT))
    weights["model.bert_proj.bias"][3] = 1e6
    with pytest.raises(NumericError, match=r"model\.bert_proj\.bias is not finite as float16"):
        write_s1(tmp_path / "a.ckpt", weights, config=gpt_config(), info="")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_earlier_file(tmp_path):
    weights = seeded(gpt_shapes(SMALL_GPT))
    path = tmp_path / "a.ckpt"
    write_s1(path, weights, config=gpt_config(), info="first")
    with pytest.raises(DataError, match="reads back differently in config"):
        write_s1(path, weights, config={**gpt_config(), "place": tmp_path}, info="second")
    assert read_s1(path).info == "first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ckpt"]


def test_views_take_only_their_own_place(tmp_path):
    weights = seeded(gpt_shapes(SMALL_GPT))
    write_s1(tmp_path / "a.ckpt", weights, config=gpt_config(), info="")
    weights["model.bert_proj.bias"] = torch.zeros(10**6)[:32]
    write_s1(tmp_path / "b.ckpt", weights, config=gpt_config(), info="")
    assert (tmp_path / "a.ckpt").stat().st_size == (tmp_path / "b.ckpt").stat().st_size


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DiskError, match="was not written"):
        write_s1(tmp_path / "file" / "a.ckpt", seeded(gpt_shapes(SMALL_GPT)), config=gpt_config(), info="")


def test_configurations_that_upstream_could_not_read(tmp_path):
    weights = seeded(gpt_shapes(SMALL_GPT))
    with pytest.raises(ConfigError, match=r"data\.max_sec"):
        write_s1(tmp_path / "a.ckpt", weights, config={"model": gpt_config()["model"]}, info="")
    with pytest.raises(ConfigError, match="tables train, data, model"):
        write_s2(tmp_path / "a.pth", {}, version="v2", config={"model": {}}, info="")
    with pytest.raises(ConfigError, match="only as LoRA files"):
        write_s2(tmp_path / "a.pth", {}, version="v4", config=s2_config("v4"), info="")
    with pytest.raises(ConfigError, match="LoRA files of v3 and v4 only"):
        write_s2(tmp_path / "a.pth", {}, version="v2", config=s2_config("v2"), info="", lora_rank=8)


def test_the_wrong_kind_of_file_is_named(tmp_path):
    write_s1(tmp_path / "a.ckpt", seeded(gpt_shapes(SMALL_GPT)), config=gpt_config(), info="")
    with pytest.raises(DataError, match=r"is s1 of v2, and a SoVITS \(s2\) weights file is wanted"):
        read_s2(tmp_path / "a.ckpt")
