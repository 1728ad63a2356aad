"""Another speaker: a clip whose voice is unlike the other clips of the one that it is said to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from tts_train.findings.measure import Examined, FindingKind, Judge, Measure, Measured, NotMeasured, Told
from tts_train.findings.sound.fingerprint import packed, unpacked
from tts_train.scoring.metrics.speaker import SpeakerSimilarity, embed_sound
from tts_train.sound import Floats64

LEAST_CLIPS = 5
"""Clips of one speaker below which nobody can say which is the odd one."""
_LEAST_S = 1.0
_ROUNDS = 3
_CLEAN_DB, _MUSIC = 15.0, 3.0
"""Of ``snr`` and ``steady``, as ``noisy`` and ``music`` have them."""


class VoiceEmbedding(Measure):
    """The clip's GE2E embedding; see :mod:`tts_train.scoring.metrics.speaker`."""

    name = "voice"
    packages = SpeakerSimilarity.packages
    install = SpeakerSimilarity.install

    def measure(self, examined: Examined) -> Mapping[str, Any]:
        """Return ``voice``: 256 half-precision numbers, packed."""
        if examined.take.sound.seconds < _LEAST_S:
            raise NotMeasured("a voice is not known by less than a second")
        # Half precision: a hundred thousand clips take 70 MB, and a cosine is off by less than 0.001.
        return {"voice": packed(embed_sound(examined.take.sound).astype(np.float16))}


class VoiceJudge(Judge):
    """Tells clips of another speaker."""

    measures = (VoiceEmbedding,)
    kinds: ClassVar[tuple[FindingKind, ...]] = (
        FindingKind(
            name="other_speaker",
            summary="The voice is unlike the speaker's other clips.",
            advice="Listen: name the speaker in the row if it is another one, else take the clip out.",
            threshold=0.78,
            unit="likeness",
            below=True,
            source="Clips of one speaker lie at 0.78 to 0.98 of their mean in 98 of 100, of others below in 97.",
        ),
    )

    def figures(self, rows: Sequence[Measured]) -> Mapping[str, Mapping[str, Told]]:
        """Return the cosine of each clip to the mean of its speaker's other clips."""
        groups: dict[str | None, list[Measured]] = {}
        for row in rows:
            if "voice" in row.figures:
                # Without names all clips are one voice, as training takes them.
                groups.setdefault(row.speaker, []).append(row)
        found: dict[str, Told] = {}
        for members in groups.values():
            if len(members) >= LEAST_CLIPS:
                found |= _likeness(members)
        return {"other_speaker": found}


def _likeness(rows: Sequence[Measured]) -> dict[str, Told]:
    voices = np.stack([unpacked(row.figures["voice"], np.float16) for row in rows]).astype(np.float64)
    voices /= np.linalg.norm(voices, axis=1, keepdims=True)
    weights = np.ones(len(rows), dtype=bool)
    likeness: Floats64 = np.ones(len(rows))
    for _ in range(_ROUNDS):
        # Without the clip itself, which would vouch for itself in a small group.
        mean = (voices * weights[:, None]).sum(axis=0) - voices * weights[:, None]
        likeness = (voices * mean).sum(axis=1) / np.maximum(np.linalg.norm(mean, axis=1), 1e-9)
        # Then without the least alike half: other speakers' clips pull the mean towards themselves.
        weights = likeness >= np.median(likeness)
    return {
        row.origin: Told(figure=round(float(value), 3), detail=_why(row))
        for row, value in zip(rows, likeness, strict=True)
    }


def _why(row: Measured) -> str:
    # Embeddings of noise and music are like nobody's; such a clip need not be another speaker's.
    odd = row.figures.get("snr", _CLEAN_DB) < _CLEAN_DB or row.figures.get("steady", 0.0) >= _MUSIC
    return "there is noise or music, which makes any voice unlike" if odd else ""
