"""The speaker encoder: names, figures, sizes that are refused, and references that are."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import pytest
import torch

from tests.qwen3_tts.filling import wave
from tests.qwen3_tts.parity_speaker import figures, filled
from tests.qwen3_tts.released import model_config
from tts_train.errors import ConfigError, DataError
from tts_train_qwen3_tts.networks.speaker import SpeakerConfig, SpeakerEncoder, embed, log_mel

HERE = Path(__file__).parent
REFERENCES = json.loads((HERE / "golden" / "speaker_encoder.json").read_text())
SMALL = REFERENCES["reduced"]["config"]


def reference(seconds: float) -> torch.Tensor:
    return torch.from_numpy(wave(round(seconds * 24_000), 24_000)).float()


@pytest.fixture(scope="module")
def small() -> SpeakerEncoder:
    return filled(SpeakerConfig.read(SMALL))


@pytest.mark.parametrize(("size", "width", "numbers"), [("0b6", 1024, 8_854_336), ("1b7", 2048, 12_001_088)])
def test_released_names_and_shapes(size, width, numbers):
    released = json.loads((HERE / "manifests" / f"speaker_encoder_{size}.json").read_text())["tensors"]
    with torch.device("meta"):
        network = SpeakerEncoder({"enc_dim": width, "sample_rate": 24_000})
    assert {f"speaker_encoder.{name}": list(each.shape) for name, each in network.state_dict().items()} == released
    assert sum(each.numel() for each in network.parameters()) == numbers


def test_every_figure_is_met():
    found = list(figures(REFERENCES))
    assert [str(figure) for figure in found if not figure.ok] == []
    assert len(found) == 75


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["mel"]["mel.a"].update(surprise=1.0),
        lambda data: data["mel"]["settings"].update(hop=300),
        lambda data: data["mel"].update(filterbank_shape=[80, 513]),
        lambda data: data["reduced"]["float64"]["from_wave"].update(sum=-2.419),
        lambda data: data["reduced"]["config"].update(enc_dilations=[1, 2, 3, 5, 1]),
        lambda data: data.update(salt="other"),
    ],
)
def test_a_changed_figure_fails(change):
    data = copy.deepcopy({name: value for name, value in REFERENCES.items() if name != "full_0.6B"})
    change(data)
    assert any(not figure.ok for figure in figures(data))


def test_a_vector_depends_on_the_reference_and_on_nothing_else(small):
    one, other = embed(small, reference(1.5)), embed(small, 0.5 * reference(1.5).flip(0))
    assert one.shape == (32,)
    assert one.dtype == torch.float32
    assert not one.requires_grad
    assert float((one - other).norm()) > 0.1
    torch.testing.assert_close(one, small(log_mel(reference(1.5)[None]))[0].detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(embed(small, reference(1.5)), one)


def test_weights_of_16_bits_are_computed_with_in_float32(small):
    half = copy.deepcopy(small).bfloat16()
    assert torch.equal(embed(half, reference(1.5).double()), embed(copy.deepcopy(half).float(), reference(1.5)))
    assert half.fc.weight.dtype == torch.bfloat16


def test_of_a_long_reference_the_beginning_is_read(small, caplog):
    long = torch.cat([reference(30), torch.ones(24_000)])
    with caplog.at_level(logging.INFO):
        assert torch.equal(embed(small, long), embed(small, reference(30)))
    assert caplog.messages == ["A reference of 31.0 s: its first 30 s are read."]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (reference(0.2), "A reference has 0.20 s, and a voice is taken from 1 s or more."),
        (torch.zeros(0), "A reference has 0.00 s"),
        (torch.zeros(30_000), "is silent: its peak is 0 of full scale"),
        (torch.full((30_000,), 0.0009), "is silent"),
        (torch.full((30_000,), float("nan")), "not finite"),
        (reference(2)[None], r"one channel, and is torch.float32 \(1, 48000\)"),
        (torch.ones(30_000, dtype=torch.int16), "must be floats"),
    ],
)
def test_a_reference_that_says_nothing_is_refused(small, samples, said):
    with pytest.raises(DataError, match=said):
        embed(small, samples)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"enc_dim": None}, "names no enc_dim"),
        ({"enc_dim": "1024"}, "enc_dim '1024', where whole numbers"),
        ({"enc_channels": 512}, "enc_channels 512"),
        ({"enc_channels": [32, 32, 32]}, "one length"),
        ({"enc_channels": [32, 32, 48, 32, 96]}, "must be equal"),
        ({"enc_res2net_scale": 5}, "a multiple of enc_res2net_scale, 5"),
        ({"enc_kernel_sizes": [5, 3, 4, 3, 1]}, "all must be odd"),
        ({"sample_rate": 16_000}, "only 24000 is known"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        SpeakerConfig.read({**SMALL, **change})


def test_keys_of_no_meaning_are_left_out():
    assert SpeakerConfig.read({**SMALL, "model_type": "speaker"}) == SpeakerConfig.read(SMALL)


def test_only_a_base_model_holds_the_encoder_and_under_the_released_names():
    from tts_train_qwen3_tts.networks.talker import Qwen3TTSConfig, Qwen3TTSLM

    config = model_config("r06", "base")
    names = {
        "speaker_encoder." + name for name, _ in SpeakerEncoder(config["speaker_encoder_config"]).named_parameters()
    }
    for kind, held in (("base", names), ("custom_voice", set())):
        with torch.device("meta"):
            network = Qwen3TTSLM(Qwen3TTSConfig(**{**config, "tts_model_type": kind}))
        assert {name for name, _ in network.named_parameters() if name.startswith("speaker_encoder.")} == held
