"""Whisper by faster-whisper as a recogniser: nearly a hundred languages, by a model that is downloaded or given."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tts_train.contract.metric import HeardText, Recogniser
from tts_train.disk.files import hash_file
from tts_train.scoring.recognisers.batches import hear_many
from tts_train.scoring.recognisers.models import (
    BEAM,
    WHISPER_RATE,
    Whispered,
    count_cards,
    find_whisper,
    hear,
    load_whisper,
)
from tts_train.sound import Sound

DEFAULT_MODEL = "small"
"""Taken where no model is named: about 480 MB, and good enough on a CPU for the larger languages."""
_MULTILINGUAL = 51_865
"""Entries from which on a vocabulary is of a model for all languages; CTranslate2 tells them apart by this, too."""
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
_OPTION = "Model"


class WhisperRecogniser(Recogniser):
    """Text by a Whisper model.

    Args:
        model: size, hub name or folder of a faster-whisper model.
    """

    name = "whisper"
    worth = "Whisper writes sentences with punctuation; names and numbers are what it gets wrong most."
    packages = ("faster_whisper",)

    def __init__(self, model: str | None) -> None:
        self.model: str = model or DEFAULT_MODEL

    def lacks(self, language: str | None) -> str | None:
        """Say that the model does not know a language."""
        known = _languages(find_whisper(self.model, option=_OPTION))
        if language is None or language in known:
            return None
        listed = ", ".join(sorted(known)) if len(known) < 9 else f"{len(known)} languages"
        return f"the Whisper model {self.model} knows {listed}, not {language}"

    def settings(self) -> Mapping[str, Any]:
        """Return the hash of the weights and how they are asked; downloads a model that is not there."""
        folder = find_whisper(self.model, option=_OPTION)
        # The content, not the name: a size on the hub may get other weights, and a folder may move.
        return {
            "weights": hash_file(folder / "model.bin"),
            "beam": BEAM,
            "batches": _batches(),
            "version": version("faster-whisper"),
        }

    def recognise(self, sound: Sound, language: str | None) -> HeardText:
        """Return the text where a detector of speech finds any, by beam search."""
        model = load_whisper(self.model, option=_OPTION)
        return _told(hear(model, sound.at(WHISPER_RATE), language=language, only_speech=True), language)

    def recognise_many(self, sounds: Sequence[Sound], languages: Sequence[str | None]) -> list[HeardText]:
        """Return the text of each, on a card in one pass for all."""
        if not _batches():
            return super().recognise_many(sounds, languages)
        model = load_whisper(self.model, option=_OPTION)
        heard = hear_many(model, [sound.at(WHISPER_RATE) for sound in sounds], languages)
        return [_told(one, language) for one, language in zip(heard, languages, strict=True)]


def _batches() -> bool:
    # On a CPU 16 clips at once took 18 % less time, and lost the library's second tries at what came out in loops.
    return count_cards() > 0


def _told(heard: Whispered, language: str | None) -> HeardText:
    # The mean log-probability of a token: its exponential is the geometric mean of their probabilities.
    probability = heard.log_probability
    return HeardText(
        text=heard.text,
        confidence=0.0 if probability is None else min(1.0, math.exp(probability)),
        language=heard.language,
        language_confidence=heard.language_probability if language is None else None,
    )


@lru_cache(maxsize=2)
def _languages(folder: Path) -> frozenset[str]:
    """Return the languages of a model; of English ones the vocabulary names all of them, too."""
    listed, lines = folder / "vocabulary.json", folder / "vocabulary.txt"
    if listed.is_file():
        words = list(map(str, json.loads(listed.read_text(encoding="utf-8"))))
    else:
        words = lines.read_text(encoding="utf-8").rstrip("\n").split("\n")
    # Older models have their vocabulary as lines, newer ones as JSON.
    if len(words) < _MULTILINGUAL:
        return frozenset({"en"})
    return frozenset(found[1] for word in words if (found := _LANGUAGE.fullmatch(word)))
