"""Many clips in one pass of Whisper, which fills a card: each clip is a window of its own.

The model is asked as faster-whisper's batched pipeline asks it (``generate_segment_batched``). The pipeline itself
takes windows of one recording and tells no language of each, so it does not serve for clips.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tts_train.scoring.recognisers.models import BEAM, WINDOW, Whispered, hear

Samples: TypeAlias = "NDArray[np.float32]"
# What faster-whisper's pipeline takes by default. Of each clip large-v3 keeps 1,500 frames as keys and values in 32
# layers of 1,280 channels: 245 MB in 16 bits, 2 GB for all.
_AT_ONCE = 8
# The limits of OpenAI's and faster-whisper's own decoding, beyond which it tries anew with sampling.
_MOST_REPEATED, _LEAST_SURE = 2.4, -1.0


def hear_many(
    model: Any,  # noqa: ANN401 - the package ships no types
    clips: Sequence[Samples],
    languages: Sequence[str | None],
    *,
    at_once: int = _AT_ONCE,
) -> list[Whispered]:
    """Return what a loaded model hears in each of some clips, where a detector finds speech.

    Args:
        model: of :func:`tts_train.scoring.recognisers.models.load_whisper`.
        clips: samples (time,) at 16 kHz, full scale 1.
        languages: of each; None is told by the sound.
        at_once: most clips in one pass.
    """
    vad = import_module("faster_whisper.vad")
    speaks = [len(vad.get_speech_timestamps(clip)) > 0 for clip in clips]
    found = {
        number: Whispered(text="", log_probability=None, language=languages[number] or "", language_probability=0.0)
        for number, spoken in enumerate(speaks)
        if not spoken
    }
    due = [number for number, clip in enumerate(clips) if speaks[number] and len(clip) <= WINDOW]
    for start in range(0, len(due), at_once):
        some = due[start : start + at_once]
        heard = _one_pass(model, [clips[number] for number in some], [languages[number] for number in some])
        found |= {number: one for number, one in zip(some, heard, strict=True) if not is_doubtful(one)}
    # What is longer than a window, or came out in loops, is heard by itself, with all that the library does then.
    return [
        found.get(number) or hear(model, clip, language=languages[number], only_speech=True)
        for number, clip in enumerate(clips)
    ]


def _one_pass(model: Any, clips: Sequence[Samples], languages: Sequence[str | None]) -> list[Whispered]:  # noqa: ANN401
    """Return what is heard in clips of at most a window, by beam search without times."""
    trim = import_module("faster_whisper.audio").pad_or_trim
    # The last frame of the features lies behind the end of the sound.
    encoded = model.encode(np.stack([trim(model.feature_extractor(clip)[..., :-1]) for clip in clips]))
    spoken = _languages(model, encoded, languages)
    # Called, not imported: the package is optional.
    make = import_module("faster_whisper.tokenizer").Tokenizer
    multilingual = model.model.is_multilingual
    tokenizers = [make(model.hf_tokenizer, multilingual, task="transcribe", language=one) for one, _ in spoken]
    prompts = [model.get_prompt(tokenizer, [], without_timestamps=True) for tokenizer in tokenizers]
    results = model.model.generate(encoded, prompts, beam_size=BEAM, max_length=model.max_length, return_scores=True)
    return [
        _told(tokenizer, result, *language)
        for tokenizer, result, language in zip(tokenizers, results, spoken, strict=True)
    ]


def _told(tokenizer: Any, result: Any, language: str, probability: float) -> Whispered:  # noqa: ANN401
    tokens = result.sequences_ids[0]
    # The score is a mean over the tokens without the last one, which ends the text and counts as well.
    mean = result.scores[0] * len(tokens) / (len(tokens) + 1)
    text = tokenizer.decode(tokens).strip()
    return Whispered(
        text=text,
        log_probability=mean if text and math.isfinite(mean) else None,
        language=language,
        language_probability=probability,
    )


def _languages(model: Any, encoded: Any, given: Sequence[str | None]) -> list[tuple[str, float]]:  # noqa: ANN401
    """Return the language of each clip, with its probability: 1 where it was given."""
    if not model.model.is_multilingual:
        return [("en", 1.0)] * len(given)
    if None not in given:
        return [(language or "", 1.0) for language in given]
    heard = model.model.detect_language(encoded)
    # The model's tokens are <|en|>, the likeliest first.
    return [
        (language, 1.0) if language is not None else (best[0][0][2:-2], float(best[0][1]))
        for language, best in zip(given, heard, strict=True)
    ]


def is_doubtful(heard: Whispered) -> bool:
    """Tell whether a text goes round in loops, or is too unsure to be kept without a second try."""
    text = heard.text.encode()
    repeated = len(text) / len(zlib.compress(text)) if text else 0.0
    return repeated > _MOST_REPEATED or (heard.log_probability or -math.inf) < _LEAST_SURE
