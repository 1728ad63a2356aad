"""Recompute the reference figures of the audio functions: mel spectrograms, loudness mix, slicer and sampler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import soxr
import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tests.gpt_sovits.filling import wave
from tests.gpt_sovits.sovits_figures import compare_probe
from tts_train_gpt_sovits.signal import mel
from tts_train_gpt_sovits.signal.audio import SliceOptions, feature_wave, find_slices, slice_wave, training_wave
from tts_train_gpt_sovits.stages.sovits.rows import BucketSampler

_RATE = 32000


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of an audio file; its fields tell which kind it is."""
    if "wave_samples" in data:
        for field, expected in data.items():
            if field in ("float32", "float64"):
                yield from _mel(expected, data["salt"], data["wave_samples"], field)
            elif field not in ("salt", "wave_samples"):
                yield unknown(field, expected)
    elif "dtype_of_mix" in data:
        yield from _mix(data)
    elif "silent_spans_s" in data:
        yield from _slices(data)
    elif "s2" in data:
        yield from _sampler(data["s2"])
    else:
        yield unknown("kind", sorted(data))


def _mel(expected: dict[str, Any], salt: str, count: int, kind: str) -> Iterator[Figure]:
    dtype = getattr(torch, kind)
    high = torch.from_numpy(wave(count, _RATE, salt)).float().to(dtype)[None]
    low = torch.from_numpy(wave(count * 3 // 4, 24000, f"{salt}24:")).float().to(dtype)[None]
    magnitudes = mel.spectrogram(high)
    of_v3 = mel.normalise(mel.wave_log_mel(low, mel.V3_MEL))
    of_v4 = mel.normalise(mel.wave_log_mel(high, mel.V4_MEL))
    got = {
        "wave": high,
        "wave24": low,
        "spec_2048_640": magnitudes,
        "spec_shape": magnitudes,
        "mel128_from_spec": mel.log_mel(magnitudes),
        "mel128_direct": mel.wave_log_mel(high),
        "v3_spec_1024_256": mel.spectrogram(low, mel.V3_MEL),
        "v3_mel100_24k_norm": of_v3,
        "v3_mel_shape": of_v3,
        "v4_mel100_32k_norm": of_v4,
        "v4_mel_shape": of_v4,
    }
    for field, value in expected.items():
        name = f"{kind}.{field}"
        if field not in got:
            yield unknown(name, value)
        elif field.endswith("_shape"):
            yield Figure(name, value, list(got[field].shape))
        else:
            yield from compare_probe(name, value, got[field])


def _mix(data: dict[str, Any]) -> Iterator[Figure]:
    samples = torch.from_numpy(wave(data["n"], _RATE, data["salt"]) * data["gain"]).float()
    words = training_wave(samples).long()
    yield Figure("abs_max", data["abs_max"], float(samples.abs().max()), relative=1e-7)
    yield Figure(
        "wav32k_int16",
        data["wav32k_int16"],
        {
            "first20": words[:20].tolist(),
            "sum": int(words.sum()),
            "abs_sum": int(words.abs().sum()),
            "min": int(words.min()),
            "max": int(words.max()),
        },
    )
    wide = feature_wave(samples)
    yield from compare_probe("hubert_input_32k", data["hubert_input_32k(1145.14)"], wide)
    narrow = torch.from_numpy(soxr.resample(wide.numpy(), _RATE, 16000, quality="HQ"))
    yield Figure("len16k", data["len16k"], len(narrow))
    yield Figure("dtype16k", data["dtype16k"], str(narrow.dtype).removeprefix("torch."))
    yield from compare_probe("hubert_input_16k", data["hubert_input_16k_librosa_default_resample"], narrow)
    piece = slice_wave(samples, peak=0.9, alpha=0.25).long()
    yield Figure(
        "slicer_chunk_int16",
        data["slicer_chunk_int16(max=0.9,alpha=0.25)"],
        {"first20": piece[:20].tolist(), "sum": int(piece.sum())},
    )


def _slices(data: dict[str, Any]) -> Iterator[Figure]:
    samples = _silences(data["N"], data["silent_spans_s"])
    for i, case in enumerate(data["cases"]):
        given = case["params"]
        options = SliceOptions(
            threshold=given["threshold"],
            min_length=given["min_length"],
            min_interval=given["min_interval"],
            hop_length=given["hop_size"],
            max_silence=given["max_sil_kept"],
        )
        got = [[start, end, end - start] for start, end in find_slices(samples, _RATE, options)]
        yield Figure(f"cases.{i}.chunks", case["chunks_start_end_len"], got)


def _silences(count: int, spans: list[list[float]]) -> Tensor:
    time = torch.arange(count, dtype=torch.float64) / _RATE
    level = torch.ones_like(time)
    for start, end in spans:
        level[(time >= start) & (time < end)] = 0.0005
    return (0.3 * torch.sin(2 * torch.pi * 200 * time) * level).float()


def _sampler(expected: dict[str, Any]) -> Iterator[Figure]:
    settings: dict[str, Any] = {"batch_size": expected["batch_size"], "boundaries": expected["boundaries"]}
    lengths = expected["lengths_frames"]
    for case in expected["cases"]:
        replicas, rank, epoch = case["replicas"], case["rank"], case["epoch"]
        sampler = BucketSampler(lengths, num_replicas=replicas, rank=rank, **settings)
        sampler.set_epoch(epoch)
        name = f"s2.cases.{rank}of{replicas}.epoch{epoch}"
        yield Figure(f"{name}.batches", case["batches"], list(sampler))
        yield Figure(f"{name}.len", case["len"], len(sampler))
    one, two = (BucketSampler(lengths, num_replicas=count, **settings) for count in (1, 2))
    yield Figure("s2.buckets", expected["buckets"], one.buckets)
    sizes = {"replicas1": one.bucket_sizes, "replicas2": two.bucket_sizes}
    yield Figure("s2.num_samples_per_bucket", expected["num_samples_per_bucket"], sizes)
    yield Figure("s2.boundaries_after", expected["boundaries_after"], one.boundaries)
