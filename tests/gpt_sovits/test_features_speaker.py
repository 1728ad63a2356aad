"""Speaker vectors: the released network's names, size and figures."""

from __future__ import annotations

import pytest
import torch

from tests.gpt_sovits.filling import fill, wave
from tts_train.errors import ConfigError, DataError
from tts_train_gpt_sovits.features import SpeakerVectors
from tts_train_gpt_sovits.features.speaker import ERes2NetV2, filter_banks

# Upstream's network of one block a stage and 16 channels, filled by name, on 3 s of the reference wave.
PLACES = [0, 1, 700, 2559, 5119]
FIGURES = [0.767413, 0.768954, -0.560389, -0.061281, -0.010467]
MEAN, ROOT_MEAN_SQUARE = 0.10961790, 0.54489915
PUBLISHED_PARAMETERS = 17.86e6
"""With ``base_width`` and ``scale`` and ``expansion`` of 26, 2 and 2, and the layer to 192 values after it."""


def filled(network: ERes2NetV2) -> dict[str, torch.Tensor]:
    return {name: value(name, tensor) for name, tensor in network.state_dict().items()}


def value(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return tensor
    made = fill("sv." + name, tensor.shape, dtype=torch.float32)
    if "running_var" in name:
        return made.abs() + 0.5
    return 0.05 * made if "running_mean" in name else made


def test_upstreams_figures():
    network = ERes2NetV2(blocks=(1, 1, 1, 1), planes=(16, 32, 64, 128)).eval()
    network.load_state_dict(filled(network))
    with torch.no_grad():
        vector = network(filter_banks(torch.from_numpy(wave(48_000, 16_000)).float()[None])[None])[0].double()
    assert vector.shape == (5120,)
    torch.testing.assert_close(vector[PLACES], torch.tensor(FIGURES).double(), rtol=0, atol=3e-6)
    assert float(vector.mean()) == pytest.approx(MEAN, abs=1e-6)
    assert float(vector.square().mean().sqrt()) == pytest.approx(ROOT_MEAN_SQUARE, abs=1e-6)


def test_released_sizes():
    with torch.device("meta"):
        other = ERes2NetV2(base_width=26, scale=2, expansion=2)
        released = ERes2NetV2()
    after = 2 * 20480 // 2 * 192 + 192
    assert sum(each.numel() for each in other.parameters()) + after == pytest.approx(PUBLISHED_PARAMETERS, rel=1e-3)
    shapes = {name: tuple(tensor.shape) for name, tensor in released.state_dict().items()}
    assert sum(each.numel() for each in released.parameters()) == 45_649_120
    assert shapes["layer1.0.shortcut.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer3.5.fuse_models.2.local_att.3.weight"] == (96, 24, 1, 1)
    assert shapes["layer4.0.convs.3.weight"] == (192, 192, 3, 3)
    assert shapes["fuse34.local_att.0.weight"] == (512, 4096, 1, 1)
    assert shapes["layer3_ds.weight"] == (2048, 1024, 3, 3)


def test_a_released_file_is_read(tmp_path):
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in ERes2NetV2().state_dict().items()}
    weights = {
        name: torch.full(shape, number, dtype=torch.float16) for number, (name, shape) in enumerate(shapes.items())
    }
    weights |= {"seg_1.weight": torch.zeros(192, 40), "seg_1.bias": torch.zeros(192)}
    torch.save(weights, tmp_path / "sv.ckpt")
    vectors = SpeakerVectors.load(str(tmp_path / "sv.ckpt"))
    for name, tensor in vectors.network.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, weights[name].float()), name
    weights["fuse34.local_att.0.bias"] = torch.zeros(3)
    torch.save(weights, tmp_path / "sv.ckpt")
    with pytest.raises(DataError, match=r"fuse34\.local_att\.0\.bias has shape \(3,\), not \(512,\)"):
        SpeakerVectors.load(str(tmp_path / "sv.ckpt"))


def test_tiny_vectors_tell_sounds_apart():
    vectors = SpeakerVectors.load("tiny")
    low = torch.from_numpy(10_000 * wave(32_000, 32_000)).to(torch.int16)
    high = torch.from_numpy(10_000 * wave(32_000, 8_000)).to(torch.int16)
    found = vectors.encode([low, high, low])
    assert found[0].shape == (20480,)
    assert torch.equal(found[0], found[2])
    assert (found[0] - found[1]).abs().max() > 0.1
    assert vectors.fingerprint == SpeakerVectors.load("tiny").fingerprint


def test_clips_without_a_vector():
    vectors = SpeakerVectors.load("tiny")
    with pytest.raises(DataError, match="Clip 0 must be int16 of 25 ms or more"):
        vectors.encode([torch.zeros(700, dtype=torch.int16)])
    with pytest.raises(DataError, match="float32"):
        vectors.encode([torch.zeros(32_000)])
    with pytest.raises(ConfigError, match="released"):
        SpeakerVectors.load("absent")
