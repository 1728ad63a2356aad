"""Recordings of an export: as they are, or as WAV or FLAC at a rate, and checked again once they are written."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import soundfile

from tts_train.corpus import RowRejected, read_audio
from tts_train.curation.exchange.formats import Kind
from tts_train.curation.job import CorpusJob
from tts_train.progress import Progress
from tts_train.sound import Floats, whole_numbers

Sounded: TypeAlias = "dict[str, Any]"
"""``seconds`` of what was written; or ``error`` and ``detail``."""

_CHUNK = 16
_DEEP = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_SLACK_SECONDS = 0.005
"""A resampler rounds the length to whole samples; MP3's decoders differ by less."""


@dataclass(frozen=True, kw_only=True)
class Sounding:
    """One recording to write."""

    source: Path
    target: Path
    kind: Kind
    sample_rate: int | None


def sound_all(work: Sequence[Sounding], job: CorpusJob) -> list[Sounded]:
    """Write recordings, in order, in as many processes as the job says.

    Raises:
        Interrupted: when asked to stop.
    """
    from tts_train.parallel.chunks import cut, run_chunks, run_chunks_on_ray
    from tts_train.parallel.processes import set_worker

    lost: set[str] = set()
    chunks = list(cut(work, size=_CHUNK, key=lambda one: one.target.name))
    for folder in {one.target.parent for one in work}:
        folder.mkdir(parents=True, exist_ok=True)
    if job.engine == "ray":
        results = run_chunks_on_ray(_written, chunks, workers=job.workers)
    else:
        results = run_chunks(_written, chunks, workers=job.workers, setup=set_worker, lost=partial(_add, lost))
    found: list[Sounded] = []
    with Progress("Exporting", len(work)) as progress:
        for chunk, result in zip(chunks, results, strict=True):
            told = iter(result)
            died = {"error": "decode_crash", "detail": "the process that read it died"}
            found += [died if str(one.target) in lost else next(told) for one in chunk]
            progress.advance(len(chunk))
    return found


def _add(lost: set[str], one: Sounding) -> None:
    lost.add(str(one.target))


def _written(work: list[Sounding]) -> list[Sounded]:
    return [_write(one) for one in work]


def _write(one: Sounding) -> Sounded:
    try:
        # Decoded in any case: a damaged clip is told here, not by whoever trains on the export.
        audio = read_audio(one.source, sample_rate=one.sample_rate, root=one.source.parent)
        if one.kind == "as_is" or _is_so(one):
            shutil.copyfile(one.source, one.target)
        else:
            _convert(one, audio.samples, audio.sample_rate)
        # Read again here, where several processes do it: what was written is what the corpus will be.
        again = read_audio(one.target)
    except RowRejected as rejected:
        return {"error": rejected.reason, "detail": rejected.detail}
    # Texts are compared when the tables are read; that a sound is the sound that was meant is told by its length.
    if abs(again.seconds - audio.seconds) > _SLACK_SECONDS:
        return {"error": "not_read_back", "detail": f"{again.seconds:.3f} s were read back of {audio.seconds:.3f}"}
    return {"seconds": again.seconds}


def _is_so(one: Sounding) -> bool:
    """Tell whether the file is what is asked for already: mono, whole numbers, at the rate."""
    try:
        info = soundfile.info(one.source)
    except (OSError, RuntimeError):
        return False
    rate = one.sample_rate or info.samplerate
    plain = str(info.subtype) in ("PCM_16", "PCM_24")
    return bool(info.format == one.kind.upper() and plain and info.channels == 1 and info.samplerate == rate)


def _convert(one: Sounding, samples: Floats, rate: int) -> None:
    try:
        deep = str(soundfile.info(one.source).subtype) in _DEEP
    except (OSError, RuntimeError):
        deep = False
    # What was lossy, or of 8 bits, has no more than 16; what may have more keeps 24, the most that FLAC is read with.
    bits: Literal[16, 24] = 24 if deep else 16
    soundfile.write(one.target, whole_numbers(samples, bits), rate, format=one.kind.upper(), subtype=f"PCM_{bits}")
