"""PocketSphinx (BSD), whose wheel carries its models, for English: places given words, and tells which are said."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from tts_train.contract.metric import HeardText, Recogniser, optional
from tts_train.errors import ConfigError
from tts_train.sound import Floats, Sound

SPHINX_RATE = 16_000
"""Hz."""
_FRAMES = 100.0
"""Frames a second."""
_OTHER_READING = re.compile(r"\(\d+\)$")


class SphinxRecogniser(Recogniser):
    """English text by PocketSphinx.

    Args:
        model: must be None; there is one model, in the wheel.
    """

    name = "sphinx"
    worth = (
        "sphinx gets about 3 of 10 words wrong even of a clear voice, takes every language for English, and writes no "
        "capitals and no punctuation: correct every text in the review."
    )
    languages = frozenset({"en"})
    packages = ("pocketsphinx",)
    install = "pip install 'tts-train[corpus]'"

    def __init__(self, model: str | None) -> None:
        self.model = model

    def settings(self) -> Mapping[str, Any]:
        """Return the version of the wheel, which its model is part of."""
        if self.model is not None:
            raise ConfigError(f"sphinx brings its own model and takes no other, such as {self.model}. Leave it out.")
        return {"version": version("pocketsphinx")}

    def recognise(self, sound: Sound, language: str | None) -> HeardText:
        """Return the likeliest words, with the geometric mean of their posterior probabilities."""
        decoder = sphinx("recognise")
        feed(decoder, sound.at(SPHINX_RATE))
        # Without a hypothesis there are no segments to ask for.
        segments = [] if decoder.hyp() is None else [one for one in decoder.seg() if not is_filler(one.word)]
        words = tuple(
            # The dictionary numbers the pronunciations of a word: tomato(2).
            (_OTHER_READING.sub("", one.word), one.start_frame / _FRAMES, (one.end_frame + 1) / _FRAMES)
            for one in segments
        )
        return HeardText(
            text=" ".join(word for word, _, _ in words),
            confidence=_geometric_mean([one.prob for one in segments]),
            language="en",
            words=words,
        )


def _geometric_mean(probabilities: list[float]) -> float:
    if not probabilities:
        return 0.0
    # A posterior is a sum of rounded logarithms and may come out as 0, or a little above 1.
    logs = [math.log(min(1.0, max(1e-6, one))) for one in probabilities]
    return math.exp(sum(logs) / len(logs))


@lru_cache(maxsize=2)
def sphinx(use: Literal["align", "recognise"]) -> Any:  # noqa: ANN401 - the package ships no types
    """Return a decoder that places given words in a sound, or that tells which words are in it.

    Raises:
        ConfigError: if it is not installed.
    """
    # Without a language model the words are given, and are aligned; the default one is that of the wheel.
    given: dict[str, Any] = {"lm": None} if use == "align" else {}
    return optional("pocketsphinx").Decoder(**given, loglevel="FATAL", samprate=SPHINX_RATE)


def feed(decoder: Any, samples: Floats) -> None:  # noqa: ANN401 - the package ships no types
    """Let a decoder hear samples at 16 kHz, (time,), full scale 1."""
    # Its tracker of the noise goes on from sound to sound: what is heard in one would depend on those before it.
    decoder.reinit_feat()
    decoder.start_utt()
    # PocketSphinx takes 16-bit words only.
    decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()


def is_filler(word: str) -> bool:
    """Tell whether a segment is a silence or a noise, which stand in angle or square brackets."""
    return word.startswith(("<", "["))
