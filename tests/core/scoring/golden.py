"""Records what public implementations say of the sample voice, for test_eval_agreement.py; run in an environment with

pip install pysptk pyworld librosa fastdtw soxr soundfile speechmos onnxruntime requests "setuptools<81" (and, for the
embedding, resemblyzer and webrtcvad-wheels); then: python tests/core/scoring/golden.py
"""

from __future__ import annotations

import json
from pathlib import Path

import librosa
import numpy as np
import pysptk
import pyworld
import soundfile
import soxr
from resemblyzer import VoiceEncoder
from speechmos import dnsmos

WAVS = Path(__file__).parents[3] / "core" / "tts_train" / "demo" / "voice" / "wavs"
RATE = 16_000


def clip(number: int) -> np.ndarray:
    samples, rate = soundfile.read(WAVS / f"sample-{number:02d}.flac", dtype="float32")
    return soxr.resample(samples, rate, RATE, quality="HQ").astype(np.float32)


def cepstra(samples: np.ndarray) -> np.ndarray:
    samples = samples.astype(np.float64)
    pitch, times = pyworld.dio(samples, RATE, frame_period=5.0)
    pitch = pyworld.stonemask(samples, pitch, times, RATE)
    return pysptk.sp2mc(pyworld.cheaptrick(samples, pitch, times, RATE), order=24, alpha=0.42)


def mcd(one: np.ndarray, other: np.ndarray) -> float:
    x, y = cepstra(one)[:, 1:], cepstra(other)[:, 1:]
    _, path = librosa.sequence.dtw(x.T, y.T, metric="euclidean")
    steps = [np.linalg.norm(x[i] - y[j]) for i, j in path]
    return float(10 / np.log(10) * np.sqrt(2) * np.mean(steps))


def main() -> None:
    one, other = clip(1), clip(2)
    noisy = one + 0.01 * np.random.default_rng(0).standard_normal(len(one)).astype(np.float32)
    scores = dnsmos.run(one, RATE)
    golden = {
        "cepstrum": cepstra(one)[100].tolist(),
        "mcd_noisy": mcd(one, noisy),
        "mcd_other": mcd(one, other),
        "dnsmos": [float(scores[name]) for name in ("ovrl_mos", "sig_mos", "bak_mos")],
        "dnsmos_noisy": [float(dnsmos.run(noisy, RATE)[name]) for name in ("ovrl_mos", "sig_mos", "bak_mos")],
        "embedding": VoiceEncoder("cpu", verbose=False).embed_utterance(one)[:32].tolist(),
    }
    print(json.dumps({name: np.round(value, 6).tolist() for name, value in golden.items()}, indent=1))


if __name__ == "__main__":
    main()
