"""Speaker similarity: by GE2E embeddings with the weights of Resemblyzer, or by a WavLM x-vector model of the user's.

Wan, Wang, Papir, Lopez Moreno 2018 (arXiv 1710.10467). Of the package ``resemblyzer`` (Apache-2.0) only the file of
weights is used: its code asks for a voice detector that must be compiled. Embeddings equal the package's for the same
samples. WavLM is the usual choice where weights can be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tts_train.contract.metric import Figure, Metric, Take, package_folder
from tts_train.errors import ConfigError
from tts_train.scoring.metrics.wave import trimmed
from tts_train.sound import Floats, Sound
from tts_train.weights.hub import unreachable, why_missing

if TYPE_CHECKING:
    from torch import Tensor, nn


SAMPLE_RATE = 16_000
FRAME, HOP, MELS = 400, 160, 40
WINDOW, STRIDE = 160, 77
"""Mel frames that are embedded at once (1.6 s), and from one such window to the next (1.3 a second)."""
MIN_COVERAGE = 0.75
"""Share of the last window that must be sound; otherwise it is left out."""
SIZE, LAYERS = 256, 3
LEVEL_DB = -30.0
"""Quieter sounds are raised to this level."""
INSTALL_RESEMBLYZER = "pip install --no-deps resemblyzer"


class SpeakerSimilarity(Metric):
    """Cosine of a take's voice to the same speaker's other recordings; above about 0.75 it is the same voice."""

    name = "speaker"
    figures = (
        Figure(name="speaker_similarity", unit="", better="higher", summary="likeness of the voice, GE2E cosine"),
    )
    wants = frozenset({"voice"})
    packages = ("resemblyzer",)
    # Its declared dependencies include that voice detector, and a copy of typing for old Pythons.
    install = INSTALL_RESEMBLYZER

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the cosine of the take and the mean of the recordings."""
        return {"speaker_similarity": cosine(embedding(take.sound), mean_embedding(take.voice))}


def cosine(one: Floats, other: Floats) -> float:
    """Return the cosine of two vectors of length 1."""
    return float(one @ other)


def mean_embedding(sounds: Sequence[Sound]) -> Floats:
    """Return the mean of the embeddings, of length 1."""
    return _unit(np.mean([embedding(sound) for sound in sounds], axis=0))


def embed_sound(sound: Sound) -> Floats:
    """Return a voice's (256,) embedding of length 1, without the silence before and behind."""
    return embed(raised(trimmed(sound, SAMPLE_RATE)))


# For metrics, which hold each take against the same recordings.
embedding = lru_cache(maxsize=512)(embed_sound)


def embed(samples: Floats) -> Floats:
    """Embed samples at 16 kHz as they are: the mean over windows of 1.6 s, of length 1."""
    import torch

    starts = _starts(len(samples))
    due = (starts[-1] + WINDOW) * HOP
    padded = torch.from_numpy(np.pad(samples, (0, max(0, due - len(samples)))).astype(np.float32))
    lstm, linear = _network()
    with torch.inference_mode():
        mel = _mel(padded)
        _, (hidden, _) = lstm(torch.stack([mel[start : start + WINDOW] for start in starts]))
        # Each window's embedding is cut at 0 and has length 1 before the mean is taken (Resemblyzer's
        # voice_encoder.py).
        found = torch.nn.functional.normalize(linear(hidden[-1]).relu(), dim=1)
    return _unit(np.asarray(found.numpy().mean(axis=0), dtype=np.float32))


def _starts(samples: int) -> list[int]:
    """First mel frame of each window."""
    # As in compute_partial_slices of Resemblyzer's voice_encoder.py, the 0.75 included.
    frames = -(-(samples + 1) // HOP)
    starts = list(range(0, max(1, frames - WINDOW + STRIDE + 1), STRIDE))
    covered = (samples - starts[-1] * HOP) / (WINDOW * HOP)
    return starts[:-1] if covered < MIN_COVERAGE and len(starts) > 1 else starts


def raised(samples: Floats) -> Floats:
    """Return samples at -30 dB of full scale where they are quieter than that."""
    # Raised only, as Resemblyzer does: loud sounds stay as they are.
    level = 20 * np.log10(max(float(np.sqrt(np.square(samples).mean())), 1e-8))
    raised: Floats = samples * np.float32(10 ** (max(0.0, LEVEL_DB - level) / 20))
    return raised


def _unit(vector: Floats) -> Floats:
    unit: Floats = vector / max(float(np.linalg.norm(vector)), 1e-8)
    return unit


def _mel(samples: Tensor) -> Tensor:
    """(frames, 40) mel power spectrum of Slaney's filters."""
    import torchaudio

    # Slaney's scale and norm are librosa's defaults, by which Resemblyzer makes its spectra (audio.py).
    transform = torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE, n_fft=FRAME, hop_length=HOP, n_mels=MELS, norm="slaney", mel_scale="slaney", pad_mode="constant"
    )
    mel: Tensor = transform(samples).T
    return mel


@lru_cache(maxsize=1)
def _network() -> tuple[nn.LSTM, nn.Linear]:
    import torch

    file = package_folder("resemblyzer", INSTALL_RESEMBLYZER) / "pretrained.pt"
    weights = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    lstm, linear = torch.nn.LSTM(MELS, SIZE, LAYERS, batch_first=True), torch.nn.Linear(SIZE, SIZE)
    for name, part in (("lstm.", lstm), ("linear.", linear)):
        part.load_state_dict({key.removeprefix(name): value for key, value in weights.items() if key.startswith(name)})
    return lstm.eval(), linear.eval()


class WavLmSimilarity(Metric):
    """Cosine of a take's voice to the same speaker's other recordings.

    Args:
        weights: folder or hub name of a WavLM for x-vectors, such as ``microsoft/wavlm-base-plus-sv``.
    """

    name = "wavlm"
    figures = (
        Figure(name="wavlm_similarity", unit="", better="higher", summary="likeness of the voice, WavLM cosine"),
    )
    wants = frozenset({"voice"})

    def __init__(self, weights: str | None) -> None:
        self.weights = weights

    def missing(self) -> str | None:
        """Say that a model must be given."""
        return None if self.weights else "give --weights.wavlm MODEL (such as microsoft/wavlm-base-plus-sv)"

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the cosine of the take and the mean of the recordings."""
        assert self.weights is not None
        # Both have length 1 but for the mean, which is divided by its own.
        own = wavlm_embedding(take.sound, self.weights)
        voice = np.mean([wavlm_embedding(sound, self.weights) for sound in take.voice], axis=0)
        return {"wavlm_similarity": float(own @ voice / max(float(np.linalg.norm(voice)), 1e-8))}


@lru_cache(maxsize=512)
def wavlm_embedding(sound: Sound, weights: str) -> Floats:
    """Return a voice's (size,) embedding of length 1 by a WavLM for x-vectors, a folder or a hub name."""
    import torch

    samples = torch.from_numpy(sound.at(SAMPLE_RATE).copy())
    # WavLM's front end expects zero mean and unit variance.
    samples = (samples - samples.mean()) / (samples.var(unbiased=False) + 1e-7).sqrt()
    with torch.inference_mode():
        found = _model(weights)(samples[None]).embeddings[0]
    vector: Floats = torch.nn.functional.normalize(found, dim=0).numpy()
    return vector


@lru_cache(maxsize=1)
def _model(weights: str) -> Any:  # noqa: ANN401 - transformers' classes are untyped here
    from transformers import WavLMForXVector

    try:
        # safetensors alone: PyTorch's other files of weights on the hub are pickles, which can run code.
        return WavLMForXVector.from_pretrained(weights, use_safetensors=True, local_files_only=unreachable()).eval()
    except (OSError, ValueError) as error:
        why = why_missing(error, weights)
        raise ConfigError(
            f"--weights.wavlm {weights} cannot be loaded: {why} Give a folder or hub name of a WavLMForXVector with "
            "safetensors."
        ) from error
