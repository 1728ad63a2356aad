"""Does the take say its text? A forced alignment tells, without any download: English, by PocketSphinx.

PocketSphinx (BSD) carries its acoustic model and dictionary. The aligner gives up where sound and text part, and what
share of the words it has then placed separates right from wrong text well: see docs/evaluation.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from tts_train.contract.metric import Figure, Metric, Take, optional
from tts_train.sound import Floats

SAMPLE_RATE = 16_000
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


class WordsFound(Metric):
    """Share of a text's words that a forced alignment places in the sound; words out of the dictionary do not count."""

    name = "alignment"
    figures = (
        Figure(name="words_found", unit="%", better="higher", summary="words that forced alignment finds", digits=0),
    )
    wants = frozenset({"text"})
    languages = frozenset({"en"})
    packages = ("pocketsphinx",)

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the share in percent; nothing if the dictionary has none of the words."""
        words = [word for word in words_of(take.text) if _decoder().lookup_word(word)]
        if not words:
            return {}
        found = aligned(take.sound.at(SAMPLE_RATE), words)
        return {"words_found": 100.0 * min(1.0, found / len(words))}


def words_of(text: str) -> list[str]:
    """Return the English words of a text in lower case; numbers in digits are none."""
    return _WORD.findall(text.lower().replace("’", "'"))


def aligned(samples: Floats, words: list[str]) -> int:
    """Return how many of the words, all of them in the dictionary, are placed in samples at 16 kHz."""
    decoder = _decoder()
    decoder.set_align_text(" ".join(words))
    decoder.start_utt()
    decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return 0
    # Silences and noises stand in angle or square brackets.
    return sum(not segment.word.startswith(("<", "[")) for segment in decoder.seg())


@lru_cache(maxsize=1)
def _decoder() -> Any:  # noqa: ANN401 - the package ships no types
    return optional("pocketsphinx").Decoder(lm=None, loglevel="FATAL", samprate=SAMPLE_RATE)
