"""The voice of a clip as a vector, by the embeddings that evaluation compares voices with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tts_train.corpus import read_audio
from tts_train.curation.job import ClipWork, Facts
from tts_train.curation.row import ClipRow
from tts_train.errors import ConfigError
from tts_train.scoring.metrics.wave import speech_span, trimmed
from tts_train.sound import Floats, Sound

RESEMBLYZER, WAVLM = "resemblyzer", "wavlm"
VECTOR, SPEECH = "vector", "speech"
_DIGITS = 4
"""Decimals of a vector that are kept: cosines of 256 of them then differ by less than 0.001."""
_VERSION = 1

Embed: TypeAlias = Callable[[Sound], Floats]


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """One way to make vectors, and how alike two of one voice are by it."""

    name: str
    model: str | None
    join: float
    """Mean cosine from which on two clusters are one voice."""
    alike: float
    """Cosine to a voice's mean below which a clip with enough speech is another's."""
    alike_short: float
    """The same for a clip with less."""
    certain: float
    """Cosine to a voice's mean from which on a clip is that voice's beyond doubt."""
    enough: float
    """Seconds of speech from which on a vector says for certain whose voice it is."""

    def work(self) -> ClipWork:
        """Return what is done with each clip."""
        measure = _resemblyzer if self.model is None else partial(_wavlm, model=self.model)
        settings = {"embedding": self.name, "model": self.model, "version": _VERSION, "digits": _DIGITS}
        return ClipWork(name="speakers", measure=measure, settings=settings)


def choose_embedding(given: str) -> Embedding:
    """Return what ``--embeddings`` names.

    Raises:
        ConfigError: if there is no such thing, or it is not installed; says what to type.
    """
    from tts_train.scoring.metrics.speaker import SpeakerSimilarity

    name, _, model = given.partition(":")
    if name == RESEMBLYZER and not model:
        if lack := SpeakerSimilarity().missing():
            raise ConfigError(f"corpus speakers: {lack} Or give --embeddings wavlm:MODEL.")
        # Measured by benchmarks/corpus_speakers.py on 1,040 prompts of 8 voices: clips of one voice with 1.6 s of
        # speech are .78 or more like its mean, those of others .80 at most; from .65 on clusters of two voices join,
        # from .75 on clusters of one voice fall apart. Words of half a second reach .55 of their own voice.
        return Embedding(name=name, model=None, join=0.71, alike=0.71, alike_short=0.58, certain=0.8, enough=1.6)
    if name == WAVLM and model:
        # The example of its authors takes 0.86 for two single clips (huggingface.co/microsoft/wavlm-base-plus-sv);
        # means of many are more alike than clips. Not measured here, where its weights cannot be had.
        return Embedding(name=name, model=model, join=0.80, alike=0.80, alike_short=0.70, certain=0.86, enough=1.6)
    raise ConfigError(
        f"--embeddings {given}: give resemblyzer, or wavlm:MODEL with a folder or hub name such as "
        "wavlm:microsoft/wavlm-base-plus-sv."
    )


def _resemblyzer(clip: Path, row: ClipRow) -> Facts:
    from tts_train.scoring.metrics import speaker

    del row
    sound = _read(clip)
    begin, end = speech_span(sound)
    samples = speaker.raised(trimmed(sound, speaker.SAMPLE_RATE))
    least = speaker.WINDOW * speaker.HOP
    if len(samples) < least:
        # Said again and again until a window is full: filled with silence, words of half a second are .66 like their
        # own voice in the median and .75 so (the same prompts).
        samples = np.tile(samples, -(-least // max(len(samples), 1)))[:least]
    return _facts(speaker.embed(samples), end - begin)


def _wavlm(clip: Path, row: ClipRow, *, model: str) -> Facts:
    from tts_train.scoring.metrics.speaker import wavlm_embedding

    del row
    sound = _read(clip)
    begin, end = speech_span(sound)
    try:
        vector = wavlm_embedding(sound, model)
    except ConfigError as error:
        # It names the option of eval.
        raise ConfigError(str(error).replace("--weights.wavlm ", "--embeddings wavlm:")) from error
    return _facts(vector, end - begin)


def _read(clip: Path) -> Sound:
    audio = read_audio(clip, root=clip.parent)
    return Sound(audio.samples, audio.sample_rate)


def _facts(vector: Floats, speech: float) -> Facts:
    return {VECTOR: [round(float(value), _DIGITS) for value in vector], SPEECH: round(speech, 3)}
