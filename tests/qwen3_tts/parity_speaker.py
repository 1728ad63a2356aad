"""Recompute the reference figures of the speaker encoder: its mel, and its vectors at two sizes and precisions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tests.gpt_sovits.sovits_figures import compare_probe
from tests.qwen3_tts.filling import fill_all, inputs, wave
from tts_train_qwen3_tts.networks import speaker

_NOT_FIGURES = ("salt", "torch", "transformers", "upstream", "wave_rule", "inp_mel_rule")
_MEL_SHARE = 1e-4
"""Of the root mean square: the mel is float32 in every file."""
_CPU = torch.device("cpu")


def figures(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of a file of the speaker encoder."""
    wave_mel = None
    for name, value in data.items():
        if name == "mel":
            yield from _mels(value, data["salt"])
            wave_mel = _mel(next(iter(value)), value, data["salt"])
        elif isinstance(value, dict) and "config" in value and wave_mel is not None:
            yield from _vectors(name, value, wave_mel, data["salt"])
        elif name not in _NOT_FIGURES:
            yield unknown(name, value)


def _mel(tag: str, cases: dict[str, Any], salt: str) -> Tensor:
    count = cases[tag]["samples"]
    heard = torch.zeros(count) if tag == "mel.silence" else torch.from_numpy(_wave(count, salt, tag)).float()
    return speaker.log_mel(heard[None])


def _wave(count: int, salt: str, tag: str) -> Any:
    return wave(count, speaker.SAMPLE_RATE, f"{salt}{tag}:")


def _mels(cases: dict[str, Any], salt: str) -> Iterator[Figure]:
    bands = speaker.mel_bands(128, _CPU)
    for tag, value in cases.items():
        if tag == "filterbank":
            yield from compare_probe(f"mel.{tag}", value, bands, _MEL_SHARE)
        elif tag == "filterbank_shape":
            yield Figure(f"mel.{tag}", value, list(bands.shape))
        elif tag == "settings":
            yield Figure(f"mel.{tag}", value, _settings())
        else:
            yield from _one_mel(f"mel.{tag}", value, _mel(tag, cases, salt))


def _settings() -> dict[str, int]:
    sizes = {"n_fft": speaker.FFT, "hop": speaker.HOP, "win": speaker.FFT, "n_mels": 128}
    return {**sizes, "fmin": 0, "fmax": speaker.SAMPLE_RATE // 2, "sr": speaker.SAMPLE_RATE}


def _one_mel(name: str, expected: dict[str, Any], got: Tensor) -> Iterator[Figure]:
    near = _MEL_SHARE * (expected["mel"]["sumsq"] / expected["mel"]["numel"]) ** 0.5
    for field, value in expected.items():
        of = f"{name}.{field}"
        if field == "samples":
            continue
        if field == "shape":
            yield Figure(of, value, list(got.shape))
        elif field == "mel":
            yield from compare_probe(of, value, got, _MEL_SHARE)
        elif field == "frame0":
            yield Figure(of, value, got[0, ::16, 0].tolist(), tolerance=near)
        elif field == "mean_per_16_bands":
            yield Figure(of, value, got[0].reshape(8, 16, -1).mean(dim=(1, 2)).tolist(), tolerance=near)
        else:
            yield unknown(of, value)


def _vectors(name: str, case: dict[str, Any], wave_mel: Tensor, salt: str) -> Iterator[Figure]:
    config = speaker.SpeakerConfig.read(case["config"])
    for kind, expected in case.items():
        if kind == "config":
            continue
        if kind not in ("float32", "float64"):
            yield unknown(f"{name}.{kind}", expected)
            continue
        dtype = getattr(torch, kind)
        share = 1e-5 if kind == "float64" else 1e-4 if name == "reduced" else 1e-3
        network = filled(config, salt=salt, dtype=dtype)
        with torch.no_grad():
            of_wave = network(wave_mel.to(dtype))
            of_input = network((inputs("speaker.mel", (2, 57, 128), salt=salt, dtype=dtype) * 3 - 4).transpose(1, 2))
        got = {"from_wave": of_wave, "from_inp_mel": of_input}
        for field, value in expected.items():
            of = f"{name}.{kind}.{field}"
            if field in got:
                yield from compare_probe(of, value, got[field], share)
            elif field == "from_wave_head":
                near = share * float(of_wave.double().square().mean().sqrt())
                yield Figure(of, value, of_wave[0, : len(value)].tolist(), tolerance=near)
            else:
                yield unknown(of, value)


def filled(
    config: speaker.SpeakerConfig, *, salt: str = "", dtype: torch.dtype = torch.float32
) -> speaker.SpeakerEncoder:
    """Return an encoder in evaluation mode with the figures' weights."""
    network = speaker.SpeakerEncoder(config).to(dtype).eval()
    shapes = [(name, tensor.shape) for name, tensor in network.state_dict().items()]
    network.load_state_dict(fill_all(shapes, prefix="speaker_encoder.", salt=salt, dtype=dtype))
    return network
