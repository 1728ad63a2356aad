"""What a clip's own text is worth against its sound, and what the texts of the rows around it are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tts_train.contract.metric import Take
from tts_train.corpus.language import SHORTEST, base_language, can_detect, detected
from tts_train.errors import MissingExtraError
from tts_train.findings.measure import Examined, Measure, NotMeasured
from tts_train.findings.text.acoustics import FRAMES_A_SECOND, PARTS, SoundScores, scores_of
from tts_train.findings.text.alignment import ANY, Placed, Spoken, place, totals
from tts_train.findings.text.sounding import KNOWN, spoken

IMPOSSIBLE = -20.0
"""Fit of a text that cannot be said in the time of its clip; the worst that were measured reach -8."""
EDGE_SOUNDS = 4
"""Sounds at each end of a text that are looked at for a cut: what is said in 0.3 s."""

# What is said besides the text costs this many nats a frame: more than words that are there (1.5 to 2.2), less than
# words that are not (4 to 6).
_OTHER = 3.5
_SURE = 0.6
# Shorter words fit anything: two sounds are found in most stretches of speech.
_LEAST_SOUNDS = 3


class TextFit(Measure):
    """How well a text fits its sound by forced alignment, in the five languages that there are rules for."""

    name = "text_fit"
    packages = ("pocketsphinx",)
    reads_text = True
    around = 4

    def settings(self) -> Mapping[str, Any]:
        """Return whether languages can be told: a row that names none has no figures without the detector."""
        return {"detector": can_detect()}

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return what fits how well, in nats a frame of 10 ms below the best sounds of English at each moment.

        ``fit`` is the text's own, ``start_fit`` and ``end_fit`` are those of its first and last sounds, ``word`` and
        ``word_fit`` the word that fits worst, ``unsaid`` the most seconds of speech in one gap (before, between or
        behind the words) that no word accounts for and ``unsaid_at`` where, ``rival`` the text of a row beside it that
        fits best and ``rival_lead`` how many nats it fits better over the whole clip.

        Raises:
            NotMeasured: if there are no rules for the language, or none is known, or the text has no word of it.
        """
        language = _language(examined)
        found = fit_figures(scores_of(examined.take.sound), examined.take.text, examined.near, language)
        return {"fit_language": language, **found}


def fit_figures(scores: SoundScores, text: str, near: Sequence[str], language: str) -> dict[str, Any]:
    """Return the figures of :class:`TextFit`.

    Args:
        scores: of the clip.
        text: of the row.
        near: texts of the rows around it.
        language: one of :data:`KNOWN`.

    Raises:
        NotMeasured: if the text has no word but numbers.
    """
    own = spoken(text, language)
    if not any(ANY not in sounds for _, sounds in own):
        raise NotMeasured("the text has no word that can be held against the sound")
    found = {**_own(scores, own), **_rival(scores, own, {other: spoken(other, language) for other in near})}
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in found.items()
        if value is not None
    }


def _language(examined: Examined) -> str:
    take = examined.take
    language = base_language(take.language) or _heard_in(take, examined.near)
    if language is None:
        raise NotMeasured("the rows name no language and it cannot be told: add a column language")
    if language not in KNOWN:
        raise NotMeasured(f"text is held against sound in {', '.join(sorted(KNOWN))} only, not in {language}")
    return language


def _heard_in(take: Take, near: Sequence[str]) -> str | None:
    """Tell the language of a row that names none by its text, and by those around it where that is short."""
    texts = " ".join([take.text, *near])
    if sum(map(str.isalpha, texts)) < SHORTEST:
        return None
    try:
        language, sure = detected(texts)
    except MissingExtraError as error:
        raise NotMeasured(f"the rows name no language: {error}") from None
    return language if sure >= _SURE else None


def _own(scores: SoundScores, text: Spoken) -> dict[str, Any]:
    if len(scores) < PARTS * sum(len(sounds) for _, sounds in text):
        return {"fit": IMPOSSIBLE}
    placed = place(scores, text)
    found: dict[str, Any] = {"fit": placed.mean_fit()}
    last = int(placed.line.sound.max())
    found["start_fit"] = _fit_of(placed, 0, EDGE_SOUNDS - 1)
    found["end_fit"] = _fit_of(placed, last - EDGE_SOUNDS + 1, last)
    found |= _worst_word(placed, text)
    return {**found, **_unsaid(scores, text)}


def _fit_of(placed: Placed, first: int, last: int) -> float | None:
    here = (placed.sound >= first) & (placed.sound <= last) & placed.known
    return float(placed.fit[here].mean()) if here.any() else None


def _worst_word(placed: Placed, text: Spoken) -> dict[str, Any]:
    fits = {
        number: float(placed.fit[placed.word == number].mean())
        for number, (_, sounds) in enumerate(text)
        if len(sounds) >= _LEAST_SOUNDS and ANY not in sounds
    }
    if not fits:
        return {}
    worst = min(fits, key=fits.__getitem__)
    return {"word": text[worst][0], "word_fit": fits[worst]}


def _unsaid(scores: SoundScores, text: Spoken) -> dict[str, float]:
    """Return the longest speech beside the words of the text, and where its gap begins, in seconds."""
    placed = place(scores, text, other=_OTHER)
    apart = placed.word < 0
    # In one gap, not in one run: a stop in a foreign word looks like a pause.
    edges = np.flatnonzero(np.diff(np.concatenate([[0], apart.astype(np.int8), [0]])))
    speech = apart & (scores.speech - _OTHER > scores.silence)
    gaps = [(int(speech[start:end].sum()), int(start)) for start, end in edges.reshape(-1, 2)]
    frames, start = max(gaps, default=(0, 0))
    return {"unsaid": frames / FRAMES_A_SECOND, "unsaid_at": start / FRAMES_A_SECOND}


def _rival(scores: SoundScores, own: Spoken, others: Mapping[str, Spoken]) -> dict[str, Any]:
    said = [sounds for _, sounds in own]
    # The same words twice are no exchange, whatever their signs.
    rivals = {text: words for text, words in others.items() if words and [sounds for _, sounds in words] != said}
    if not rivals:
        return {}
    fits = np.maximum(totals(scores, [own, *rivals.values()]), IMPOSSIBLE * len(scores))
    best = int(np.argmax(fits[1:]))
    return {
        "rival": list(rivals)[best],
        "rival_fit": float(fits[1 + best]) / len(scores),
        "rival_lead": float(fits[1 + best] - fits[0]),
    }
