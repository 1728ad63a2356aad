"""Recompute the reference figures of the codec: its encoder with and without a window, and its decoder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.figures import Figure, unknown
from tests.gpt_sovits.sovits_figures import compare_probe
from tests.qwen3_tts.filling import fill_all, integers, wave
from tests.qwen3_tts.parity import FOLDERS
from tts_train_qwen3_tts.codec.decoder import SoundDecoder
from tts_train_qwen3_tts.codec.encoder import SoundEncoder
from tts_train_qwen3_tts.codec.sizes import DecoderSizes, EncoderSizes, read_sizes

GOLDEN = Path(__file__).parent / "golden"
CLOSE = 1e-4
"""Relative gap between the two nearest centroids below which a distance's own error may decide."""
SHARES = {"float32": 1e-4, "float64": 1e-5}
"""Largest error of a probe, as a share of its root mean square."""
FULL_WAVE = 1e-3
_SAID = ("salt", "torch", "transformers", "upstream", "wave_rule", "codes_rule", "config", "what")
UPSTREAM_CHUNK, UPSTREAM_CONTEXT = 300, 25
_NAMES = {"padded_batch": "pad"}  # of a case's codes, where it is another than the case's


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of a file of the whole codec."""
    for field, expected in data.items():
        if field in SHARES:
            yield from _parts(field, data, expected)
        elif field == "codes_same_in_both_types":
            for tag, same in expected.items():
                yield from _same_in_both(f"{field}.{tag}", same, data, tag)
        elif field not in _SAID:
            yield unknown(field, expected)


def _same_in_both(name: str, same: bool, data: dict[str, Any], tag: str) -> Iterator[Figure]:
    samples, sure = data["float32"]["encode"][tag]["samples"], _sure(_reference_gaps(data, tag))
    codes = [_codes(_encoder(_key(data), kind), data["salt"], tag, samples).tolist() for kind in SHARES]
    alike = _up_to(codes[0], sure) == _up_to(codes[1], sure)
    # A close call may have gone either way in the reference.
    close = min(sure) < len(codes[0][0])
    yield Figure(name, same, alike and (same if close else codes[0] == codes[1]))


def _key(data: Mapping[str, Any]) -> tuple[str, str]:
    return data["salt"], json.dumps(data["config"])


@lru_cache(maxsize=4)
def _encoder(key: tuple[str, str], kind: str, window: bool = False) -> SoundEncoder:
    salt, config = key
    sizes = read_sizes(EncoderSizes, json.loads(config)["encoder_config"], "encoder_config")
    return filled(SoundEncoder(sizes, window=window), "encoder.", salt, kind)


@lru_cache(maxsize=2)
def _decoder(key: tuple[str, str], kind: str) -> SoundDecoder:
    salt, config = key
    sizes = read_sizes(DecoderSizes, json.loads(config)["decoder_config"], "decoder_config")
    return filled(SoundDecoder(sizes), "decoder.", salt, kind)


def filled(network: Any, prefix: str, salt: str, kind: str) -> Any:
    """Return the network in eval mode with the figures' weights."""
    shapes = [(name, value.shape) for name, value in network.state_dict().items()]
    weights = fill_all(shapes, prefix=prefix, salt=salt, dtype=getattr(torch, kind))
    network = network.to(getattr(torch, kind)).eval().requires_grad_(False)
    network.load_state_dict(weights)
    return network


def _wave(salt: str, tag: str, samples: int, kind: torch.dtype) -> Tensor:
    return torch.from_numpy(wave(samples, 24000, f"{salt}codec.{tag}:")).float().to(kind)[None, None]


def _codes(encoder: SoundEncoder, salt: str, tag: str, samples: int, count: int = 16) -> Tensor:
    return encoder(_wave(salt, tag, samples, encoder.downsample.conv.weight.dtype), count)[0].T


def _parts(kind: str, data: dict[str, Any], expected: dict[str, Any]) -> Iterator[Figure]:
    encoded = expected.get("encode", {})
    for field, value in expected.items():
        if field == "encode":
            for tag, case in value.items():
                yield from _encode(f"{kind}.encode.{tag}", kind, data, tag, case)
        elif field in ("encode_batch_differs_from_single_at_frames", "encode_batch_lengths"):
            yield Figure(f"{kind}.{field}", value, _batch(kind, data, encoded)[field])
        elif field == "decode":
            for tag, case in value.items():
                yield from _decode(f"{kind}.decode.{tag}", kind, data, tag, case)
        else:
            yield unknown(f"{kind}.{field}", value)


def _encode(name: str, kind: str, data: dict[str, Any], tag: str, case: dict[str, Any]) -> Iterator[Figure]:
    encoder, count = _encoder(_key(data), kind), data["config"]["encoder_valid_num_quantizers"]
    sound = _wave(data["salt"], tag, case["samples"], getattr(torch, kind))
    convs = encoder.encoder(sound)
    latents = encoder.latents(sound)
    codes = encoder.quantizer(latents, count)[0]
    gaps = relative_gaps(encoder, latents, codes)
    sure = _sure(case.get("relative_gaps_by_codebook", _reference_gaps(data, tag)))
    tensors = {"seanet": convs, "latent": latents}
    for field, value in case.items():
        part = field.removesuffix("_shape")
        if field in tensors:
            yield from compare_probe(f"{name}.{field}", value, tensors[field], SHARES[kind])
        elif part != field and part in tensors:
            yield Figure(f"{name}.{field}", value, list(tensors[part].shape))
        elif field == "codes":
            yield Figure(f"{name}.codes", _up_to(value, sure), _up_to(codes.T.tolist(), sure))
        elif field == "relative_gaps_by_codebook":
            due, got = ([list(row) for row in zip(*table, strict=True)] for table in (value, gaps.tolist()))
            yield Figure(f"{name}.{field}", _up_to(due, sure), _up_to(got, sure), tolerance=CLOSE, relative=6e-3)
        elif field == "min_relative_gap":
            yield Figure(f"{name}.{field}", value, float(gaps.min()), tolerance=CLOSE, relative=6e-3)
        elif field == "samples":
            frames = -(-value // 1920)
            yield Figure(f"{name}.frames", frames, latents.shape[-1])
        else:
            yield unknown(f"{name}.{field}", value)


def _reference_gaps(data: dict[str, Any], tag: str) -> list[list[float]]:
    found: list[list[float]] = data["float32"]["encode"][tag]["relative_gaps_by_codebook"]
    return found


def _sure(gaps: list[list[float]]) -> list[int]:
    """Return for each frame how many codebooks come before the first close call."""
    return [next((i for i, gap in enumerate(frame) if gap < CLOSE), len(frame)) for frame in zip(*gaps, strict=True)]


def _up_to(frames: list[list[Any]], sure: list[int]) -> list[list[Any]]:
    # A frame too many or too few has to be seen, so lengths are not made equal.
    return [frame[: sure[i]] if i < len(sure) else frame for i, frame in enumerate(frames)]


def relative_gaps(encoder: SoundEncoder, latents: Tensor, codes: Tensor) -> Tensor:
    """Return [codebooks, T]: how much further the second nearest centroid is than the nearest, over its distance."""
    found, quantiser = [], encoder.quantizer
    for group, own in (
        (quantiser.semantic_residual_vector_quantizer, codes[:1]),
        (quantiser.acoustic_residual_vector_quantizer, codes[1:]),
    ):
        rest = group.input_proj(latents)[0].T
        for level, book in zip(group.layers, own, strict=False):
            centroids = level.codebook.centroids()
            apart = torch.cdist(rest.double(), centroids.double(), compute_mode="donot_use_mm_for_euclid_dist")
            best, second = apart.topk(2, largest=False).values.T
            found.append((second - best) / best)
            rest = rest - centroids[book]
    return torch.stack(found)


def _batch(kind: str, data: dict[str, Any], cases: dict[str, Any]) -> dict[str, Any]:
    """Encode all cases as upstream does, in one batch of the longest's length."""
    encoder = _encoder(_key(data), kind)
    sounds = [_wave(data["salt"], tag, case["samples"], getattr(torch, kind))[0] for tag, case in cases.items()]
    longest = max(sound.shape[-1] for sound in sounds)
    padded = torch.stack([nn.functional.pad(sound, (0, longest - sound.shape[-1])) for sound in sounds])
    together = encoder(padded, 16)
    frames = [-(-sound.shape[-1] // 1920) for sound in sounds]
    differ = {}
    for tag, sound, codes, count in zip(cases, sounds, together, frames, strict=True):
        alone = encoder(sound[None], 16)[0]
        differ[tag] = (alone != codes[:, :count]).any(0).nonzero().flatten().tolist()
    return {"encode_batch_differs_from_single_at_frames": differ, "encode_batch_lengths": frames}


def _decode(name: str, kind: str, data: dict[str, Any], tag: str, case: dict[str, Any]) -> Iterator[Figure]:
    decoder, config = _decoder(_key(data), kind), data["config"]["decoder_config"]
    codes = integers(
        f"codec.codes.{_NAMES.get(tag, tag)}", case["shape"], config["codebook_size"], salt=data["salt"]
    ).mT
    if "pad" in case:
        yield from _padded(name, kind, decoder, codes, case)
        return
    quantised = decoder.quantizer(codes)
    early = decoder.pre_conv(quantised)
    frames = decoder.pre_transformer(early)
    steps = decoder.upsample(frames)
    whole, chunked = decoder.decoder(steps)[:, 0].clamp(-1, 1), upstream_chunks(decoder, codes)
    got = {
        "quantized": quantised,
        "pre_conv": early.mT,
        "pre_transformer": frames.mT,
        "upsampled": steps,
        "before_clamp": decoder.decoder(steps),
        "wave": chunked,
    }
    yield Figure(f"{name}.ours", whole[0, ::97].tolist(), decoder(codes)[0, ::97].tolist(), tolerance=1e-5)
    full = config["hidden_size"] >= 512
    for field, value in case.items():
        if field in got:
            share = FULL_WAVE if full and kind == "float32" and field in ("before_clamp", "wave") else SHARES[kind]
            yield from compare_probe(f"{name}.{field}", value, got[field], share)
        elif field == "upsampled_shape":
            yield Figure(f"{name}.{field}", value, list(steps.shape))
        elif field == "wave_len":
            yield Figure(f"{name}.{field}", value, chunked.shape[-1])
        elif field == "clamped_share":
            yield Figure(
                f"{name}.{field}", value, float((got["before_clamp"].abs() > 1).double().mean()), tolerance=1e-6
            )
        elif field == "unchunked_max_abs_difference":
            yield Figure(f"{name}.{field}", value, float((whole - chunked).abs().max()), tolerance=1e-5)
        elif field != "shape":
            yield unknown(f"{name}.{field}", value)


def upstream_chunks(decoder: SoundDecoder, codes: Tensor) -> Tensor:
    """Return [B, N]: the sound of 300 frames at a time, each with 25 before them, as upstream decodes."""
    parts = []
    for start in range(0, codes.shape[-1], UPSTREAM_CHUNK):
        context = min(start, UPSTREAM_CONTEXT)
        frames = decoder.frames(codes[..., start - context : start + UPSTREAM_CHUNK])
        parts.append(decoder.wave(frames)[:, context * 1920 :])
    return torch.cat(parts, dim=-1)


def _padded(name: str, kind: str, decoder: SoundDecoder, codes: Tensor, case: dict[str, Any]) -> Iterator[Figure]:
    first = int(case["pad"].split("..")[0].split()[-1])
    lengths = [codes.shape[-1], first]
    sounds = [upstream_chunks(decoder, each[None, :, :count]) for each, count in zip(codes, lengths, strict=True)]
    for field, value in case.items():
        if field == "lengths":
            yield Figure(f"{name}.lengths", value, [sound.shape[-1] for sound in sounds])
        elif field == "waves":
            yield Figure(f"{name}.count", len(value), len(sounds))
            for i, (probe, sound) in enumerate(zip(value, sounds, strict=False)):
                yield from compare_probe(f"{name}.waves.{i}", probe, sound, SHARES[kind])
        elif field not in ("shape", "pad"):
            yield unknown(f"{name}.{field}", value)


def _reduced(salt: str) -> dict[str, Any]:
    """Return the file whose encoder and waves a window's file has, else the one that is kept here, with its salt."""
    for path in (folder / "codec_reduced.json" for folder in FOLDERS):
        if path.is_file() and (found := json.loads(path.read_text(encoding="utf-8")))["salt"] == salt:
            return dict(found)
    return {**json.loads((GOLDEN / "codec_reduced.json").read_text(encoding="utf-8")), "salt": salt}


def check_window(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of a file of the encoder with its window; the reduced file beside it has its sizes."""
    reduced = _reduced(data["salt"])
    for field, value in data.items():
        if field == "cases":
            for tag, case in value.items():
                yield from _window_case(tag, case, reduced)
        elif field not in _SAID:
            yield unknown(field, value)


def _window_case(tag: str, case: dict[str, Any], reduced: dict[str, Any]) -> Iterator[Figure]:
    samples, salt = reduced["float32"]["encode"][tag]["samples"], reduced["salt"]
    codes = {}
    for kind in SHARES:
        encoder = _encoder(_key(reduced), kind, True)
        codes[kind] = _codes(encoder, salt, tag, samples)
        plain = _codes(_encoder(_key(reduced), kind), salt, tag, samples)
        latents = encoder.latents(_wave(salt, tag, samples, getattr(torch, kind)))
        sure = _sure(relative_gaps(encoder, latents, codes[kind].T).tolist())
        for field, value in case.get(kind, {}).items():
            name = f"cases.{tag}.{kind}.{field}"
            if field == "latent":
                yield from compare_probe(name, value, latents, SHARES[kind])
            elif field == "codes":
                yield Figure(name, _up_to(value, sure), _up_to(codes[kind].tolist(), sure))
            elif field == "frames_that_differ_from_4.57.3":
                yield Figure(name, value, (codes[kind] != plain).any(1).nonzero().flatten().tolist())
            else:
                yield unknown(name, value)
    for field, value in case.items():
        if field == "same_in_both_types":
            yield Figure(f"cases.{tag}.{field}", value, bool((codes["float32"] == codes["float64"]).all()))
        elif field not in SHARES:
            yield unknown(f"cases.{tag}.{field}", value)
