"""The core's recognisers, made for a model."""

from __future__ import annotations

from tts_train.contract.metric import Recogniser
from tts_train.scoring.recognisers.sphinx import SphinxRecogniser
from tts_train.scoring.recognisers.whisper import WhisperRecogniser


def own_recognisers(model: str | None) -> list[Recogniser]:
    """Return the core's recognisers; making one loads nothing."""
    return [WhisperRecogniser(model), SphinxRecogniser(model)]
