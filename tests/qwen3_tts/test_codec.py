"""The codec's promises: codes of a clip alone, sound in windows, networks of the released names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import MimiConfig, MimiModel

from tests.qwen3_tts.filling import integers, wave
from tests.qwen3_tts.parity_codec import filled
from tts_train_qwen3_tts.codec.decoder import CHUNK, SoundDecoder
from tts_train_qwen3_tts.codec.encoder import SoundEncoder, nearest
from tts_train_qwen3_tts.codec.load import load_codec
from tts_train_qwen3_tts.codec.sizes import DecoderSizes, EncoderSizes, read_sizes

GOLDEN = Path(__file__).parent / "golden"


def config(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())["config"]


def sound(samples, salt=""):
    return torch.from_numpy(wave(samples, 24000, salt)).float()


@pytest.fixture(scope="module")
def tiny():
    return load_codec("tiny")


@pytest.fixture(scope="module")
def decoder():
    sizes = read_sizes(DecoderSizes, config("codec_reduced")["decoder_config"], "it")
    return filled(SoundDecoder(sizes), "decoder.", "", "float32")


def reduced_encoder(*, window):
    sizes = read_sizes(EncoderSizes, config("codec_reduced")["encoder_config"], "it")
    return filled(SoundEncoder(sizes, window=window), "encoder.", "", "float32")


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_released_networks_have_the_released_names_and_shapes(part):
    released = config("codec_full")
    with torch.device("meta"):
        if part == "encoder":
            network = SoundEncoder(read_sizes(EncoderSizes, released["encoder_config"], "it"), window=False)
        else:
            network = SoundDecoder(read_sizes(DecoderSizes, released["decoder_config"], "it"))
    manifest = json.loads((GOLDEN.parent / "manifests" / f"speech_tokenizer_{part}.json").read_text())
    assert {f"{part}.{name}": list(value.shape) for name, value in network.state_dict().items()} == manifest["tensors"]


def test_the_encoder_with_a_window_is_mimi_of_transformers():
    encoder = reduced_encoder(window=True)
    mimi = MimiModel(MimiConfig(**config("codec_reduced")["encoder_config"])).eval()
    for ours, theirs in (
        (encoder.encoder, getattr(mimi.encoder, "encoder_seanet", mimi.encoder)),
        (encoder.encoder_transformer, mimi.encoder_transformer),
        (encoder.downsample, mimi.encoder.downsample if hasattr(mimi.encoder, "downsample") else mimi.downsample),
        (encoder.quantizer, mimi.quantizer),
    ):
        theirs.load_state_dict(ours.state_dict())
    clip = sound(61_000)[None, None]
    with torch.no_grad():
        assert torch.equal(encoder(clip, 18), mimi.encode(clip).audio_codes)


def test_the_window_changes_nothing_before_its_length():
    clip = sound(60_000)[None, None]
    off, on = (reduced_encoder(window=window).latents(clip) for window in (False, True))
    frames = config("codec_reduced")["encoder_config"]["sliding_window"] // 2
    torch.testing.assert_close(on[..., :frames], off[..., :frames], rtol=0, atol=1e-5)
    assert (on[..., frames:] - off[..., frames:]).abs().amax(1).min() > 1e-3


def test_the_nearest_centroid_is_found_where_a_float32_product_errs():
    # Far from the origin, where products of float32 lose what tells these two apart.
    centroids = torch.tensor([[1000.0, 0.0], [1000.0, 0.004]])
    assert nearest(torch.tensor([[1000.0, 0.0015], [1000.0, 0.0025]]), centroids).tolist() == [0, 1]


def test_clips_encoded_together_have_the_codes_of_each_alone(tiny):
    clips = [sound(1), sound(1919), sound(1920), sound(24_001, "b"), sound(30_000)]
    together = tiny.encode(clips)
    assert [len(levels[0]) for levels in together] == [1, 1, 1, 13, 16]
    for clip, levels in zip(clips, together, strict=True):
        (alone,) = tiny.encode([clip])
        np.testing.assert_array_equal(alone, levels)
        assert len(levels) == 16
        assert {level.dtype for level in levels} == {np.dtype(np.int64)}


def test_the_small_codec_hears_differences(tiny):
    codes = np.stack(tiny.encode([sound(48_000)])[0])
    assert min(len(set(level.tolist())) for level in codes) > 5
    samples = tiny.decode(codes)
    assert samples.shape == (25 * 1920,)
    assert 0.01 < samples.std() < samples.abs().max() < 1


def test_sound_in_windows_is_that_of_the_whole(decoder):
    codes = integers("windows", (1, 16, 200), 64)
    whole, reach = decoder(codes), decoder.sizes.reach
    window = decoder(codes[..., 190 - reach :], 190 - reach)
    torch.testing.assert_close(window[:, -10 * 1920 :], whole[:, -10 * 1920 :], rtol=0, atol=1e-5)
    near = decoder(codes[..., 190 - 25 :], 190 - 25)
    assert (near[:, -10 * 1920 :] - whole[:, -10 * 1920 :]).abs().max() > 1e-3


def test_a_frame_is_heard_from_its_first_sample_to_its_reach(decoder):
    codes = integers("reach", (1, 16, 100), 64)
    other = codes.clone()
    other[..., 20] = (other[..., 20] + 1) % 64
    changed = (decoder(codes) - decoder(other)).abs().view(100, 1920).amax(1)
    assert changed[:20].max() == 0
    assert changed[20] > 1e-3
    assert changed[20 + decoder.sizes.reach + 1 :].max() < 1e-6


def test_a_long_decode_is_made_in_chunks_without_a_seam(decoder):
    codes = integers("chunks", (1, 16, 2 * CHUNK + 7), 64)
    torch.testing.assert_close(decoder(codes), decoder.wave(decoder.frames(codes)), rtol=0, atol=1e-5)


def test_the_reach_of_waves_is_no_more_than_needed(decoder):
    frames = decoder.frames(integers("reach", (1, 16, 40), 64))
    other = frames.clone()
    other[..., 10] += 1
    changed = (decoder.wave(frames) - decoder.wave(other)).abs().view(40, 1920).amax(1).nonzero().flatten()
    assert changed.tolist()[0] == 10
    assert changed.tolist()[-1] <= 10 + decoder.sizes.wave_reach
    assert changed.tolist()[-1] >= 10 + decoder.sizes.wave_reach - 2
