"""What a voice continues from: a recording and what is said in it, from a file or from prepared training data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train.contract import ConfigError, DataError
from tts_train.corpus import Limits, RowRejected, read_audio
from tts_train.datasets import PreparedSet, prepared_facts
from tts_train_gpt_sovits.preparing.encode import SAMPLE_RATE, Networks, text_features
from tts_train_gpt_sovits.signal.audio import FULL_SCALE, to_int16
from tts_train_gpt_sovits.signal.mel import spectrogram
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH
from tts_train_gpt_sovits.text import FrontEnd

SHORTEST, LONGEST, BEST = 3.0, 10.0, 5.0
"""Seconds of a reference: upstream takes 3 to 10."""
_SILENCE = 0.6
"""Seconds of silence that upstream's inference puts behind a reference before its tokens are made."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A spoken prompt."""

    phonemes: Tensor
    """int64 (X,)."""
    bert: Tensor
    """(X, 1024); zeros where the language has no features."""
    codes: Tensor
    """Semantic tokens, int64 (P,)."""
    spectrogram: Tensor
    """Magnitudes (1, 1025, T)."""
    speaker: Tensor | None
    """Speaker vector (1, 20480), for the Pro versions."""
    language: str
    about: str
    """Where it is from, for people."""


def reference_from_file(
    file: Path, text: str, language: str, *, front_end: FrontEnd, networks: Networks, any_length: bool = False
) -> Reference:
    """Read a recording of 3 to 10 seconds, or of ``any_length``, and what is said in it.

    Raises:
        DataError: if it cannot be used.
    """
    said = front_end.speak(text, language)
    try:
        limits = Limits() if any_length else Limits(min_seconds=SHORTEST, max_seconds=LONGEST)
        audio = read_audio(file, sample_rate=SAMPLE_RATE, limits=limits)
    except RowRejected as rejected:
        raise DataError(
            f"--reference {file} cannot be used: {rejected.reason} ({rejected.detail}). It must have {SHORTEST:g} to "
            f"{LONGEST:g} seconds of speech."
        ) from rejected
    wave = torch.from_numpy(audio.samples)
    # Upstream's inference appends silence (0.3 s in a number of samples that is 0.6 s at 16 kHz), and the GPT continues
    # from the tokens of it.
    features = networks.hubert.encode([F.pad(wave, (0, int(_SILENCE * SAMPLE_RATE)))])
    bert = text_features([said], networks.bert)[0]
    phonemes = torch.tensor(said.ids)
    return Reference(
        phonemes=phonemes,
        bert=torch.zeros(len(phonemes), BERT_WIDTH) if bert is None else bert,
        codes=networks.semantic.encode(features)[0].cpu(),
        spectrogram=_spectrogram(wave),
        speaker=None if networks.speaker is None else networks.speaker.encode([_words(wave)])[0].cpu()[None],
        language=said.language,
        about=str(file),
    )


def reference_from_data(path: str, *, speaker: str | None = None) -> Reference:
    """Take the utterance of a prepared set that is best as a reference: of about five seconds.

    Raises:
        ConfigError: if there is no such set any more, or nothing in it is by that speaker and of that length.
    """
    if not prepared_facts(path):
        raise ConfigError(
            f"The data that this was trained on are not at {path}, so there is no voice to continue. Give --reference "
            "FILE.wav and --reference_text."
        )
    data = PreparedSet(path, length_of="wave")
    if speaker is not None and speaker not in data.speaker_counts:
        known = ", ".join(sorted(data.speaker_counts)) or "none by name"
        raise ConfigError(f"--speaker {speaker}: the training data have {known}.")
    seconds = data.lengths / SAMPLE_RATE
    right = np.array([speaker in (None, name) for name in data.speakers])
    fits = right & (seconds >= SHORTEST) & (seconds <= LONGEST)
    places = np.flatnonzero(fits if fits.any() else right)
    # Always the same one, so that what is heard from step to step can be compared.
    best = int(places[np.argmin(np.abs(seconds[places] - BEST))])
    return reference_from_row(data.row(best), f"{path}, {data.ids[best]}")


def reference_from_row(row: Mapping[str, Any], about: str) -> Reference:
    """Return a row of a prepared set as a reference; ``about`` says for people where it is from."""
    phonemes = torch.from_numpy(row["phonemes"].astype(np.int64))
    bert, voice = row.get("bert"), row.get("speaker_vector")
    features = torch.zeros(len(phonemes), BERT_WIDTH)
    if bert is not None and len(bert):
        features = torch.from_numpy(np.array(bert, dtype=np.float32)).view(-1, BERT_WIDTH)
    return Reference(
        phonemes=phonemes,
        bert=features,
        codes=torch.from_numpy(row["codes"].astype(np.int64)),
        spectrogram=_spectrogram(torch.from_numpy(row["wave"].astype(np.float32)) / FULL_SCALE),
        speaker=None if voice is None else torch.from_numpy(np.array(voice, dtype=np.float32))[None],
        language=str(row.get("language") or ""),
        about=about,
    )


def _spectrogram(wave: Tensor) -> Tensor:
    """Return magnitudes of samples (N,)."""
    return spectrogram(_within_scale(wave)[None])


def _words(wave: Tensor) -> Tensor:
    """Return samples (N,) as int16 at their own level: upstream's inference takes the speaker from these.

    Its training takes the speaker from the loudness mix, which gives another vector.
    """
    return to_int16((_within_scale(wave) * FULL_SCALE).round())


def _within_scale(wave: Tensor) -> Tensor:
    """Return samples (N,) that are brought down where they are beyond full scale, as upstream does."""
    loudest = float(wave.abs().max())
    # Beyond twice full scale upstream divides by 2 only.
    return wave / min(2.0, loudest) if loudest > 1 else wave
