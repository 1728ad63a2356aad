"""Reference figures about SNAC: codes, margins, latents and sound on hash-filled weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tests.figures import Figure, unknown
from tts_train_orpheus.codec.snac import SnacCodec
from tts_train_orpheus.codec.snac_files import fill_snac, hash_uniform

ABSOLUTE, RELATIVE = 1e-4, 1e-5
"""Decoded samples to 1e-4; sums over many samples (l2) by share as well."""
TIE = 1e-4
"""A level whose nearest two entries come closer than this may differ in one code."""
_DESCRIPTIONS = {"name", "note", "rule", "salt", "config"}


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of a ``snac_*`` file."""
    codec = build(data["config"], salt=data.get("salt", ""))
    for name in (name for name in data if name not in _DESCRIPTIONS):
        if name == "hop":
            yield Figure("hop", data["hop"], int(codec.network.hop_length))
        elif name == "encode":
            for case in data["encode"]:
                yield from _encode(f"encode T={case['T']}", case, codec)
        elif name == "decode":
            for case in data["decode"]:
                yield from _decode(f"decode frames={case['frames']}", case, codec)
        elif name == "forward":
            yield from _forward("forward", data["forward"], codec)
        else:
            yield unknown(name, data[name])


def build(config: dict[str, Any], *, salt: str = "") -> SnacCodec:
    """Return our codec around a network of any dimensions with hash-filled weights."""
    from snac import SNAC

    network = SNAC(**config)
    fill_snac(network, salt=salt)
    return SnacCodec(network)


def wave(samples: int, rate: int = 24000) -> Tensor:
    """Return the reference waveform: tones, a sweep, tremolo and hashed noise; 1-D float32."""
    t = np.arange(samples) / rate
    turn = 2 * np.pi * t
    tones = 0.35 * np.sin(220 * turn) + 0.2 * np.sin((440 + 200 * t) * turn) + 0.12 * np.sin(1730 * turn + 0.5)
    tremolo = 0.08 * np.sin(5100 * turn) * (0.5 + 0.5 * np.sin(3 * turn))
    noise = 0.03 * (2 * hash_uniform(samples, 12345) - 1)
    return torch.from_numpy((tones + tremolo + noise).astype(np.float32))


def _encode(where: str, case: dict[str, Any], codec: SnacCodec) -> Iterator[Figure]:
    clip = wave(case["T"], codec.sample_rate)
    (codes,) = codec.encode([clip])
    padded = codec.network.preprocess(clip.view(1, 1, -1))
    latent, margins = _margins(codec.network, padded)
    ties = [margin["min"] <= TIE for margin in case["margin"]]
    sizes = {"padded": padded.shape[-1], "n_codes": [len(level) for level in codes]}
    for name, expected in case.items():
        if name == "codes":
            for level, (theirs, ours) in enumerate(zip(expected, codes, strict=True)):
                yield Figure(f"{where} codes level {level}", theirs, ours.tolist(), may_differ=int(ties[level]))
        elif name == "agree_fp32_vs_fp64":
            slack = max((1 / len(level) for level, tie in zip(codes, ties, strict=True) if tie), default=0.0)
            yield Figure(f"{where} {name}", expected, _agreement(codec, padded, codes), slack)
        elif name == "margin":
            yield Figure(f"{where} margin", expected, margins, ABSOLUTE)
        elif name == "latent":
            yield from _summary(f"{where} latent", expected, latent)
        elif name in sizes:
            yield Figure(f"{where} {name}", expected, sizes[name])
        elif name != "T":
            yield unknown(f"{where} {name}", expected)


def _decode(where: str, case: dict[str, Any], codec: SnacCodec) -> Iterator[Figure]:
    codes = [torch.tensor([level]) for level in case["codes"]]
    for name, expected in case.items():
        if name == "codes":
            yield Figure(f"{where} codes", expected, _rule_codes(case["frames"], codec))
        elif name == "noise_zero":
            yield from _summary(f"{where} {name}", expected, codec.decode(case["codes"], seed=None))
        elif name == "noise_sin0731":
            yield from _summary(f"{where} {name}", expected, codec.decode_with(codes, _sine))
        elif name == "z_q":
            with torch.no_grad():
                yield from _summary(f"{where} z_q", expected, codec.network.quantizer.from_codes(codes))
        elif name != "frames":
            yield unknown(f"{where} {name}", expected)


def _forward(where: str, case: dict[str, Any], codec: SnacCodec) -> Iterator[Figure]:
    (codes,) = codec.encode([wave(case["T"], codec.sample_rate)])
    sound = codec.decode(codes, seed=None)[: case["T"]]
    for name, expected in case.items():
        if name == "out":
            yield from _summary(f"{where} out", expected, sound)
        elif name != "T":
            yield unknown(f"{where} {name}", expected)


def _summary(where: str, expected: dict[str, Any], tensor: Tensor) -> Iterator[Figure]:
    flat = tensor.double().flatten()
    ours = {
        "shape_last": flat.numel(),
        "mean": flat.mean().item(),
        "std": flat.std(correction=0).item(),
        "absmax": flat.abs().max().item(),
        "l2": flat.norm().item(),
    }
    for name, value in expected.items():
        if name == "probes":
            got = {index: flat[int(index)].item() if int(index) < flat.numel() else None for index in value}
            yield Figure(f"{where} probes", value, got, ABSOLUTE)
        elif name in ours:
            exact = name == "shape_last"
            yield Figure(f"{where} {name}", value, ours[name], 0.0 if exact else ABSOLUTE, 0.0 if exact else RELATIVE)
        else:
            yield unknown(f"{where} {name}", value)


@torch.no_grad()
def _margins(network: Any, padded: Tensor) -> tuple[Tensor, list[dict[str, float]]]:
    """Return the latent, and for each level how far the nearest entry's cosine is above the second's."""
    latent = network.encoder(padded)
    residual, margins = latent, []
    for quantizer in network.quantizer.quantizers:
        pooled = functional.avg_pool1d(residual, quantizer.stride, quantizer.stride)
        asked = functional.normalize(quantizer.in_proj(pooled)[0].T)
        first, second = (asked @ functional.normalize(quantizer.codebook.weight).T).topk(2, dim=1).values.unbind(1)
        apart = first - second
        margins.append({"min": apart.min(), "p05": apart.quantile(0.05), "median": apart.median()})
        residual = residual - quantizer(residual)[0]
    return latent, [{name: value.item() for name, value in level.items()} for level in margins]


@torch.no_grad()
def _agreement(codec: SnacCodec, padded: Tensor, codes: Any) -> list[float]:
    """Return the share of codes that float64 gives too, a level each."""
    exact = copy.deepcopy(codec.network).double().encode(padded.double())
    return [float((theirs[0].numpy() == ours).mean()) for theirs, ours in zip(exact, codes, strict=True)]


def _rule_codes(frames: int, codec: SnacCodec) -> list[list[int]]:
    strides, size = codec.network.vq_strides, codec.network.codebook_size
    counts = [frames * strides[0] // stride for stride in strides]
    return [
        [(37 * (i + 1) * (level + 1) + 11 * i * i + 5 * level) % size for i in range(count)]
        for level, count in enumerate(counts)
    ]


def _sine(block: int, shape: tuple[int, int, int]) -> Tensor:
    return torch.sin(0.731 * torch.arange(int(np.prod(shape)), dtype=torch.float64) + 0.2).reshape(shape)
