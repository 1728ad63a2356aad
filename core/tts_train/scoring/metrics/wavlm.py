"""Speaker similarity by a WavLM x-vector model of the user's: the usual choice where weights can be had."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from tts_train.contract.metric import Figure, Metric, Take
from tts_train.errors import ConfigError
from tts_train.sound import Floats, Sound
from tts_train.weights.hub import unreachable, why_missing

SAMPLE_RATE = 16_000


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
        own = _embedding(take.sound, self.weights)
        voice = np.mean([_embedding(sound, self.weights) for sound in take.voice], axis=0)
        return {"wavlm_similarity": float(own @ voice / max(float(np.linalg.norm(voice)), 1e-8))}


@lru_cache(maxsize=512)
def _embedding(sound: Sound, weights: str) -> Floats:
    """(size,) embedding of length 1."""
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
        return WavLMForXVector.from_pretrained(weights, use_safetensors=True, local_files_only=unreachable()).eval()
    except (OSError, ValueError) as error:
        why = why_missing(error, weights)
        raise ConfigError(
            f"--weights.wavlm {weights} cannot be loaded: {why} Give a folder or hub name of a WavLMForXVector with "
            "safetensors."
        ) from error
