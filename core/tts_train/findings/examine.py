"""Measure one clip: decoded once, every measure asked, and what an earlier command measured taken from its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_train.contract.metric import Take
from tts_train.corpus.audio.condition import to_mono
from tts_train.corpus.audio.containers import Limits
from tts_train.corpus.audio.read import Audio, RowReader, read_audio
from tts_train.corpus.probing import Looked, RowProbe, describe, read_sound
from tts_train.corpus.rows.utterance import Rejected, RowRejected, Utterance
from tts_train.findings.keeping import WHY, KeptFigures, measure_key
from tts_train.findings.measure import Examined, Measure, NotMeasured
from tts_train.sound import Sound, forget_copies

FIGURES = "figures"
"""Entry of ``RowProbe.more``: figures by name of the measure."""
_ANY = Limits(min_seconds=0.0, max_seconds=float("inf"), silent_peak=0.0)


def examine(row: Utterance, read: RowReader, *, measures: Sequence[Measure], kept: KeptFigures) -> Looked:
    """Read one row as ``check`` does, and measure it.

    Args:
        row: what to read.
        read: refuses rows; the sound that it gives is used where it kept the samples as decoded.
        measures: what is measured; all can be on this machine.
        kept: figures of earlier commands.
    """
    try:
        audio = read_sound(row, read)
        if audio is None:
            return None
        examined = _examined(row, audio)
    except RowRejected as error:
        return Rejected(row.origin, error.reason, error.detail)
    figures = _figures(examined, measures, kept)
    # Nobody asks for this sound again, and of recordings of a minute the copies would fill gigabytes.
    forget_copies()
    return RowProbe(**_fields(describe(audio)), more={FIGURES: figures})


def _examined(row: Utterance, audio: Audio) -> Examined:
    raw, rate = audio.raw, audio.source_rate
    if raw is None:
        # A backend's reader may resample and knows nothing of channels; it has accepted the row, so no limit holds.
        whole = read_audio(row.audio, start=row.start, end=row.end, limits=_ANY, keep_raw=True)
        raw, rate = whole.raw, whole.source_rate
    assert raw is not None
    take = Take(sound=Sound(_centred(raw), rate), text=row.text, language=row.language)
    return Examined(take=take, speaker=row.speaker, raw=raw, raw_rate=rate, warnings=audio.warnings, near=row.near)


def _centred(raw: NDArray[np.float32]) -> NDArray[np.float32]:
    mono, _ = to_mono(raw)
    # float64: a mean over a minute in float32 is off by more than what is looked for.
    return mono - np.float32(mono.mean(dtype=np.float64))


def _figures(examined: Examined, measures: Sequence[Measure], kept: KeptFigures) -> dict[str, dict[str, Any]]:
    known = kept.take(examined)
    found: dict[str, dict[str, Any]] = {}
    new: dict[str, dict[str, Any]] = {}
    for measure in measures:
        key = measure_key(measure, examined)
        if key not in known:
            new[key] = _measured(measure, examined)
        found[measure.name] = new.get(key) or known.get(key) or {}
    if new:
        # What other settings gave stays: somebody who changes them back has it.
        kept.put(examined, {**known, **new})
    return found


def _measured(measure: Measure, examined: Examined) -> dict[str, Any]:
    try:
        return dict(measure.measure(examined))
    except NotMeasured as error:
        return {WHY: str(error)}


def _fields(found: RowProbe) -> Mapping[str, Any]:
    return {name: getattr(found, name) for name in ("seconds", "source_rate", "peak", "rms", "floor", "warnings")}
