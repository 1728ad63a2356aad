"""Lets every source say the sentences: the recordings themselves, the codec's round trip, and each model."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tts_train.contract.jobs import Line, SynthJob
from tts_train.disk.sound_files import write_sound
from tts_train.errors import ConfigError, DataError, UnsafeFileError
from tts_train.progress import Progress
from tts_train.scoring.sentences import Sentence

RECORDING, CEILING, BASE = "recording", "codec", "base"
"""Sources besides those that the user names: the recordings, what the codec leaves of them, and the base model."""

# What belongs to one source. A full disk and an interruption end the command.
_FAULTS = (ConfigError, DataError, UnsafeFileError)

_NO_CEILING = "What the codec leaves of the recordings is not scored: %s"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What came of one sentence and one source."""

    source: str
    sentence: Sentence
    path: Path | None
    """The sound; None if there is none."""
    error: str | None = None
    """Why there is none."""


@dataclass(frozen=True, kw_only=True)
class SpokenTakes:
    """What came of all sentences and sources."""

    takes: Sequence[Spoken]
    """Recordings, the codec's ceiling, then source by source."""
    silent: Mapping[str, str]
    """Sources that said nothing, and why; :data:`CEILING` where the codec failed."""


def say_all(jobs: Mapping[str, SynthJob], sentences: Sequence[Sentence], *, out: Path, seed: int) -> SpokenTakes:
    """Write the sound of every source and sentence below ``out``, a folder a source.

    A sentence has the same seed with every source. Every source is opened once before the first one speaks, so that
    what is missing is told within seconds; then models are loaded one after the other. A source that cannot be opened
    or says nothing keeps none of the others from being heard.

    Raises:
        DataError: if no source can be opened, or none said a single sentence.
        DiskError: if nothing can be written.
    """
    spoken: list[Spoken] = []
    lines = {label: _lines(label, sentences, out=out, seed=seed) for label in jobs}
    closed = _cannot_be_opened(jobs, lines, recordings=any(one.recording is not None for one in sentences))
    silent = {label: why for label, why in closed.items() if label in jobs}
    with Progress("Speaking", (len(jobs) - len(silent)) * len(sentences)) as progress:
        for label, job in jobs.items():
            if label in closed:
                spoken += _nothing(label, sentences, closed[label])
                continue
            takes = _said(label, job, sentences, lines[label], progress)
            spoken += takes
            if why := _why_silent(takes):
                silent[label] = why
    if len(silent) == len(jobs):
        reasons = "".join(f"\n  {jobs[label].source}: {why}" for label, why in silent.items())
        raise DataError(f"No source said any of {len(sentences)} sentences, so there is nothing to score.{reasons}")
    for label, why in silent.items():
        if label in closed:
            continue  # said before
        logger.warning("%s said none of %d sentences, and is left out: %s", label, len(sentences), why)
    recordings = [_keep(sentence, out) for sentence in sentences if sentence.recording is not None]
    # Any source's codec: they are compared with one ceiling.
    voiced = next(job for label, job in jobs.items() if label not in silent)
    ceiling: list[Spoken] = []
    if CEILING in closed:
        silent[CEILING] = closed[CEILING]
    else:
        try:
            ceiling = _ceiling(voiced, recordings, out)
        except _FAULTS as error:
            silent[CEILING] = str(error)
            logger.warning(_NO_CEILING, error)
    return SpokenTakes(takes=[*recordings, *ceiling, *spoken], silent=silent)


def folder_name(label: str) -> str:
    """Return a name of letters, digits, dots and dashes for the folder of a source."""
    return re.sub(r"[^\w.-]+", "-", label).strip("-.") or "source"


def _cannot_be_opened(
    jobs: Mapping[str, SynthJob], lines: Mapping[str, Sequence[Line]], *, recordings: bool
) -> dict[str, str]:
    """Open each source and let go of it; return why the others cannot be opened, :data:`CEILING` among them."""
    closed: dict[str, str] = {}
    with Progress("Opening", len(jobs)) as progress:
        for label, job in jobs.items():
            try:
                job.try_open(lines[label])
            except _FAULTS as error:
                closed[label] = str(error)
            progress.advance(note=label)
    if len(closed) == len(jobs):
        reasons = "".join(f"\n  {jobs[label].source}: {why}" for label, why in closed.items())
        raise DataError(f"No source can be opened, so there is nothing to score.{reasons}")
    for label, why in closed.items():
        logger.warning("%s cannot be opened, and is left out: %s", label, why)
    if recordings:
        try:
            # With nothing to do: only whether the codec can be opened.
            next(job for label, job in jobs.items() if label not in closed).round_trip([])
        except _FAULTS as error:
            closed[CEILING] = str(error)
            logger.warning(_NO_CEILING, error)
    return closed


def _nothing(label: str, sentences: Sequence[Sentence], why: str) -> list[Spoken]:
    return [Spoken(source=label, sentence=sentence, path=None, error=why) for sentence in sentences]


def _lines(label: str, sentences: Sequence[Sentence], *, out: Path, seed: int) -> list[Line]:
    return [
        Line(
            text=sentence.text,
            out=out / folder_name(label) / f"{sentence.name}.wav",
            seed=seed + number,
            speaker=sentence.speaker,
            language=sentence.language,
        )
        for number, sentence in enumerate(sentences)
    ]


def _said(
    label: str, job: SynthJob, sentences: Sequence[Sentence], lines: Sequence[Line], progress: Progress
) -> list[Spoken]:
    spoken: list[Spoken] = []
    try:
        # strict: a report too few or too many would give sentences the sounds of others.
        for sentence, line, report in zip(sentences, lines, job.speak_all(lines), strict=True):
            error = report.error
            path = line.out if error is None else None
            spoken.append(Spoken(source=label, sentence=sentence, path=path, error=error))
            progress.advance(note=label)
    except _FAULTS as error:
        # What was said before the fault is kept.
        left = sentences[len(spoken) :]
        spoken += _nothing(label, left, str(error))
        progress.advance(len(left), note=label)
    return spoken


def _why_silent(takes: Sequence[Spoken]) -> str | None:
    """Return the first reason if there is no sound at all."""
    return None if any(take.path for take in takes) else takes[0].error


def _keep(sentence: Sentence, out: Path) -> Spoken:
    import torch

    assert sentence.recording is not None
    path = out / RECORDING / f"{sentence.name}.wav"
    write_sound(path, torch.from_numpy(sentence.recording.samples), sample_rate=sentence.recording.sample_rate)
    return Spoken(source=RECORDING, sentence=sentence, path=path)


def _ceiling(job: SynthJob, recordings: Sequence[Spoken], out: Path) -> list[Spoken]:
    pairs = [(one.path, _line(one, out / CEILING / one.path.name)) for one in recordings if one.path is not None]
    for _, line in pairs:
        line.out.parent.mkdir(parents=True, exist_ok=True)
    if not pairs or not job.round_trip(pairs):
        return []
    return [
        Spoken(source=CEILING, sentence=one.sentence, path=line.out)
        for one, (_, line) in zip(recordings, pairs, strict=True)
    ]


def _line(spoken: Spoken, out: Path) -> Line:
    said = spoken.sentence
    return Line(text=said.text, out=out, speaker=said.speaker, language=said.language)
