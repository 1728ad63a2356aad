"""Speech features: the released way of making them, whatever else is in the batch; tokens that follow the sound."""

from __future__ import annotations

from pathlib import Path

import pytest
import soxr
import torch

import tts_train.demo
from tests.gpt_sovits.feature_folders import hubert_folder
from tests.gpt_sovits.filling import wave
from tts_train.corpus.audio.read import read_audio
from tts_train.errors import ConfigError, DataError, UnsafeFileError
from tts_train_gpt_sovits.features import HubertFeatures, clip_fault
from tts_train_gpt_sovits.features.semantic import SemanticTokens
from tts_train_gpt_sovits.features.weights import fingerprint
from tts_train_gpt_sovits.signal.audio import feature_wave

RATE = 32_000


@pytest.fixture(scope="module")
def tiny():
    return HubertFeatures.load("tiny")


@pytest.fixture(scope="module")
def voice():
    """Sixteen clips of the sample voice."""
    folder = Path(tts_train.demo.__file__).parent / "voice" / "wavs"
    return [torch.from_numpy(read_audio(path, sample_rate=RATE).samples) for path in sorted(folder.iterdir())[:16]]


def clip(seconds: float, salt: str = "") -> torch.Tensor:
    return torch.from_numpy(wave(int(seconds * RATE), RATE, salt)).float()


@pytest.mark.parametrize(("pickled", "prefix"), [(True, ""), (False, ""), (True, "hubert.")])
def test_released_layout_gives_what_upstream_computes(tmp_path, pickled, prefix):
    network = hubert_folder(tmp_path, pickled=pickled, prefix=prefix)
    sound = clip(1.3)
    fed = soxr.resample(feature_wave(sound).numpy(), 32_000, 16_000, quality="HQ")
    with torch.no_grad():
        expected = network(torch.from_numpy(fed)[None]).last_hidden_state[0]
    features = HubertFeatures.load(str(tmp_path)).encode([sound])[0]
    assert features.shape == (64, 768)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_a_clip_is_the_same_alone_and_in_any_batch(tiny):
    clips = [clip(seconds, str(seconds)) for seconds in (0.5, 0.52, 0.55, 0.5, 3.0, 0.07, 1.0, 1.1)]
    together, alone = tiny.encode(clips), [tiny.encode([each])[0] for each in clips]
    tokens = SemanticTokens.load("tiny")
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    for one, other in zip(tokens.encode(together), tokens.encode(alone), strict=True):
        assert torch.equal(one, other)


def test_padding_a_clip_would_change_it(tiny):
    """Why clips of different length do not share the convolutions: their group norm is over time."""
    sound = clip(1.0)
    longer = tiny.encode([torch.cat([sound, torch.zeros(RATE // 2)])])[0]
    assert (longer[:40] - tiny.encode([sound])[0][:40]).abs().max() > 0.1


def test_tiny_codes_are_varied_and_follow_the_sound(tiny, voice):
    tokens = SemanticTokens.load("tiny")
    features = tiny.encode(voice)
    codes = tokens.encode(features)
    assert [len(each) for each in codes] == [len(each) // 2 for each in features]
    assert len(torch.cat(codes).unique()) >= 100
    repeats = torch.cat([each[1:] == each[:-1] for each in codes]).float().mean()
    assert repeats < 0.3
    quieter = tokens.encode(tiny.encode([0.5 * each for each in voice]))
    assert torch.equal(torch.cat(codes), torch.cat(quieter))
    later = tokens.encode(tiny.encode([each[RATE // 25 :] for each in voice]))
    same = torch.cat([a[1 : len(b) + 1] == b[: len(a) - 1] for a, b in zip(codes, later, strict=True)])
    assert same.float().mean() > 0.8


def test_overflow_in_half_precision_is_done_again_in_full(tmp_path):
    hubert_folder(tmp_path)
    full = HubertFeatures.load(str(tmp_path))
    half = HubertFeatures(full.network, name="", precision="float16")
    sound = [clip(0.5), clip(0.6)]
    rough = half.encode(sound)
    assert 0 < (rough[0] - full.encode(sound)[0]).abs().max() < 0.2
    with torch.no_grad():
        full.network.encoder.layers[0].feed_forward.output_dense.weight.mul_(1e7)
    again = half.encode(sound)
    assert all(torch.isfinite(each).all() for each in again)
    assert torch.equal(again[1], full.encode(sound[1:])[0])


def test_features_that_are_never_finite_are_refused(tmp_path):
    hubert_folder(tmp_path)
    broken = HubertFeatures.load(str(tmp_path))
    with torch.no_grad():
        broken.network.encoder.layers[0].layer_norm.bias[3] = torch.nan
    with pytest.raises(DataError, match="clip 0 are not finite"):
        broken.encode([clip(0.5)])


@pytest.mark.parametrize(
    ("sound", "fault"),
    [
        (torch.zeros(RATE), "silent"),
        (torch.ones(100), "too_short"),
        (torch.full((RATE,), torch.nan), "non_finite"),
        (2.3 * torch.ones(RATE), "clipped"),
    ],
)
def test_clips_without_features(tiny, sound, fault):
    assert clip_fault(sound) == fault
    with pytest.raises(DataError, match=f"Clip 1 cannot be encoded: {fault}"):
        tiny.encode([clip(0.5), sound])


def test_the_shortest_clip_has_a_token(tiny):
    shortest = clip(0.06)
    assert clip_fault(shortest) is None
    assert SemanticTokens.load("tiny").encode(tiny.encode([shortest]))[0].shape == (1,)


def test_fingerprints_tell_networks_apart(tmp_path, tiny):
    assert HubertFeatures.load("tiny").fingerprint == tiny.fingerprint
    hubert_folder(tmp_path / "a")
    hubert_folder(tmp_path / "b", pickled=False)
    names = [HubertFeatures.load(str(tmp_path / name)).fingerprint for name in "ab"]
    assert names[0] == names[1] != tiny.fingerprint
    assert fingerprint({"a": torch.zeros(2)}) != fingerprint({"a": torch.zeros(1, 2)})
    assert fingerprint({"a": torch.zeros(2)}) != fingerprint({"a": -torch.zeros(2)})


def test_folders_that_are_no_hubert(tmp_path):
    with pytest.raises(DataError, match=r"must hold config\.json"):
        HubertFeatures.load(str(tmp_path))
    with pytest.raises(ConfigError, match="no folder"):
        HubertFeatures.load(str(tmp_path / "absent"))
    hubert_folder(tmp_path)
    weights = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    weights.pop("encoder.layer_norm.bias")
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"encoder\.layer_norm\.bias is missing"):
        HubertFeatures.load(str(tmp_path))
    torch.save({"weights": print}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError):
        HubertFeatures.load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 768}')
    with pytest.raises((DataError, UnsafeFileError)):
        HubertFeatures.load(str(tmp_path))
