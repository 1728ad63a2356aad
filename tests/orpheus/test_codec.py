"""SNAC: the published network's shape, codes that do not depend on company, seeded sound, and files read safely."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.orpheus.parity_snac import build, wave
from tts_train.errors import ConfigError, DataError, UnsafeFileError
from tts_train_orpheus.codec.exact import group_batches, pad_clips
from tts_train_orpheus.codec.snac import SnacCodec, load_codec
from tts_train_orpheus.codec.snac_files import build_snac, tiny_config

GOLDEN = Path(__file__).parent / "golden"
FULL_CONFIG = json.loads((GOLDEN / "snac_full24k.json").read_text())["config"]


@pytest.fixture(scope="module")
def tiny():
    return load_codec("random")


def clips(count, longest, seed=0):
    """Coloured noise with a tone, of random lengths from one sample on."""
    rng = np.random.default_rng(seed)
    made = []
    for length in rng.integers(1, longest, count):
        noise = np.convolve(rng.standard_normal(length), np.ones(9) / 9, mode="same")
        tone = np.sin(np.arange(length) * rng.uniform(0.01, 0.2))
        made.append(torch.from_numpy((0.2 * noise + 0.3 * tone).astype(np.float32)))
    return made


def same(a, b):
    return [level.tolist() for level in a] == [level.tolist() for level in b]


def test_the_published_network_has_the_published_keys_and_shapes():
    state = build_snac(FULL_CONFIG, None, "full").state_dict()
    manifest = json.loads((GOLDEN / "manifests" / "snac_24khz.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in state.items()} == manifest
    assert list(state) == list(manifest)
    assert sum(tensor.numel() for tensor in state.values()) == 19_842_914


def test_tiny_is_the_same_everywhere_and_has_orpheus_layout(tiny):
    assert tiny.fingerprint == "snac-55aa6e3950a942d3"
    assert (tiny.sample_rate, tiny.frame_samples) == (24000, 2048)
    (codes,) = tiny.encode([wave(24000)])
    assert [len(level) for level in codes] == [12, 24, 48]
    assert len(set(codes[2].tolist())) > 20


@pytest.mark.parametrize("samples", [1, 2047, 2048, 2049])
def test_a_clip_has_as_many_frames_as_it_begins(tiny, samples):
    (codes,) = tiny.encode([wave(samples)])
    assert [len(level) for level in codes] == [-(-samples // 2048) * rate for rate in (1, 2, 4)]


@pytest.fixture(scope="module")
def one_by_one(tiny):
    mixed = clips(40, 30000)
    return mixed, [tiny.encode([clip])[0] for clip in mixed]


@pytest.mark.parametrize("batch_samples", [1 << 16, pytest.param(1 << 21, marks=pytest.mark.slow)])
def test_codes_do_not_depend_on_the_clips_beside_them(one_by_one, batch_samples):
    mixed, alone = one_by_one
    together = SnacCodec(build_snac(tiny_config(), None, "tiny"), batch_samples=batch_samples).encode(mixed)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.slow
def test_codes_do_not_depend_on_the_clips_beside_them_at_full_size():
    codec = build(FULL_CONFIG)
    mixed = clips(5, 20000, seed=1)
    alone = [codec.encode([clip])[0] for clip in mixed]
    batched = codec._encode_batch(mixed)
    assert all(same(a, b) for a, b in zip(alone, batched, strict=True))


def test_plain_padding_would_change_codes(tiny):
    short, long = wave(5000), wave(20000)
    waves, frames = pad_clips([short, long], 2048)
    with torch.no_grad():
        padded = tiny.network.encode(waves)
    (alone,) = tiny.encode([short])
    assert padded[2][0, : frames[0] * 4].tolist() != alone[2].tolist()


def test_attention_windows_are_kept_apart_too():
    config = json.loads((GOLDEN / "snac_tiny_attn.json").read_text())["config"]
    codec = build(config)
    mixed = clips(12, 900, seed=2)
    alone = [codec.encode([clip])[0] for clip in mixed]
    assert all(same(a, b) for a, b in zip(alone, codec._encode_batch(mixed), strict=True))


def test_codes_do_not_depend_on_the_callers_precision(tiny):
    clip = wave(9000)
    (plain,) = tiny.encode([clip])
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (inside,) = tiny.encode([clip])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert same(plain, inside)


def test_batches_hold_each_clip_once_within_their_size_and_padding():
    frames = np.random.default_rng(0).integers(1, 300, 500).tolist()
    batches = group_batches(frames, 1000)
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    for batch in batches:
        sizes = [frames[index] for index in batch]
        assert len(batch) * max(sizes) <= 1000
        assert (max(sizes) - min(sizes)) * 8 <= max(sizes)
    assert group_batches([5000, 3], 1000) == [[0], [1]]
    assert group_batches([], 1000) == []


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (torch.zeros(0), "empty"),
        (torch.zeros(1, 9), "1-D float32"),
        (torch.zeros(9, dtype=torch.float64), "1-D float32"),
        (torch.tensor([0.0, float("nan")]), "not finite"),
    ],
)
def test_a_clip_that_is_no_sound_is_named(tiny, clip, words):
    with pytest.raises(DataError, match=f"Clip 1 .*{words}"):
        tiny.encode([torch.zeros(5), clip])


def test_sound_depends_on_the_seed_alone(tiny):
    (codes,) = tiny.encode([wave(6000)])
    state = torch.get_rng_state()
    first, other, silent = tiny.decode(codes, seed=1), tiny.decode(codes, seed=2), tiny.decode(codes, seed=None)
    torch.manual_seed(99)
    assert torch.equal(first, tiny.decode(codes, seed=1))
    assert torch.equal(silent, tiny.decode(codes, seed=None))
    assert not torch.equal(first, other)
    assert not torch.equal(first, silent)
    assert first.shape == (3 * 2048,)
    assert first.dtype == torch.float32
    torch.set_rng_state(state)
    tiny.decode(codes, seed=-1)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_normal_and_differs_between_frames_and_scales(tiny):
    from tts_train_orpheus.codec.exact import seeded_noise

    noise = seeded_noise(0, frames=4)
    fine, coarse = noise(3, (1, 1, 4 * 2048)), noise(0, (1, 1, 4 * 32))
    assert abs(fine.mean()) < 0.05
    assert abs(fine.std() - 1) < 0.05
    parts = [*fine.reshape(4, 2048)[:, :32], *coarse.reshape(4, 32)]
    assert len({tuple(part.tolist()) for part in parts}) == 8
    assert torch.equal(seeded_noise(0, frames=2, first_frame=2)(3, (1, 1, 4096)), fine[..., 4096:])


def test_levels_that_cannot_be_decoded_are_named(tiny):
    with pytest.raises(DataError, match=r"\[1, 2, 4\], and these have \[1, 1, 4\]"):
        tiny.decode([[1], [1], [1, 2, 3, 4]])
    with pytest.raises(DataError, match=r"\[0, 4096\)"):
        tiny.decode([[1], [1, 4096], [1, 2, 3, 4]])
    assert tiny.decode([[], [], []]).shape == (0,)


def save(folder, config, weights, name):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / name) if name.endswith("safetensors") else torch.save(weights, folder / name)
    return str(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_folder_is_read(tmp_path, tiny, name):
    weights = {key: tensor.clone() for key, tensor in build_snac(tiny_config(), None, "tiny").state_dict().items()}
    codec = load_codec(save(tmp_path, tiny_config(), weights, name))
    assert codec.fingerprint == tiny.fingerprint
    weights["decoder.model.0.bias"] += 1
    assert load_codec(save(tmp_path / "b", tiny_config(), weights, name)).fingerprint != tiny.fingerprint


class Attack:
    """A pickle that would run a command."""

    def __reduce__(self):
        return os.mkdir, ("attacked",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(tiny_config()))
    torch.save({"encoder.block.0.bias": Attack()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UnsafeFileError, match=r"pytorch_model\.bin"):
        load_codec(str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(UnsafeFileError, match=r"pytorch_model\.bin"):
        load_codec(str(tmp_path))
    assert not (tmp_path / "attacked").exists()


def test_faults_of_a_folder_are_named(tmp_path):
    weights = build_snac(tiny_config(), None, "tiny").state_dict()
    with pytest.raises(ConfigError, match=r"config\.json and model\.safetensors or pytorch_model\.bin"):
        load_codec(str(tmp_path))
    other = {**tiny_config(), "sampling_rate": 44100, "codebook_size": 1024}
    with pytest.raises(ConfigError, match="is not a SNAC"):
        load_codec(save(tmp_path / "a", other, weights, "pytorch_model.bin"))
    weights = build_snac(other, None, "other").state_dict()
    with pytest.raises(ConfigError, match=r"sampling_rate 44100 instead of 24000, codebook_size 1024 instead of 4096"):
        load_codec(save(tmp_path / "b", other, weights, "pytorch_model.bin"))
    with pytest.raises(ConfigError, match="unknown_key"):
        load_codec(save(tmp_path / "c", {**other, "unknown_key": 1}, weights, "pytorch_model.bin"))
    (tmp_path / "c" / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="not JSON"):
        load_codec(str(tmp_path / "c"))
    (Path(save(tmp_path / "d", other, weights, "pytorch_model.bin")) / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"model\.safetensors cannot be read"):
        load_codec(str(tmp_path / "d"))


def test_a_name_that_is_neither_folder_nor_repository_is_named():
    with pytest.raises(ConfigError, match=r"No codec could be loaded from 'no/such/folder'"):
        load_codec("no/such/folder")
