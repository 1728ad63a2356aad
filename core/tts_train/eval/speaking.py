"""Lets every source say the sentences: the recordings themselves, the codec's round trip, and each model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tts_train.errors import DataError
from tts_train.eval.sentences import Sentence
from tts_train.jobs import Line, SynthJob
from tts_train.progress import Progress
from tts_train.sound import write_sound

RECORDING, CEILING, BASE = "recording", "codec", "base"
"""Sources besides those that the user names: the recordings, what the codec leaves of them, and the base model."""


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What came of one sentence and one source."""

    source: str
    sentence: Sentence
    path: Path | None
    """The sound; None if there is none."""
    error: str | None = None
    """Why there is none."""


def say_all(jobs: Mapping[str, SynthJob], sentences: Sequence[Sentence], *, out: Path, seed: int) -> list[Spoken]:
    """Write the sound of every source and sentence below ``out``, a folder a source.

    A sentence has the same seed with every source. Models are loaded one after the other, each once.

    Raises:
        DataError: if a source did not say a single sentence.
        DiskError: if nothing can be written.
    """
    recordings = [sentence for sentence in sentences if sentence.recording is not None]
    spoken = [_keep(sentence, out) for sentence in recordings]
    spoken += _ceiling(next(iter(jobs.values())), spoken, out)
    with Progress("Speaking", len(jobs) * len(sentences)) as progress:
        for label, job in jobs.items():
            spoken += _said(label, job, sentences, progress, out=out, seed=seed)
    return spoken


def folder_name(label: str) -> str:
    """Return a name of letters, digits, dots and dashes for the folder of a source."""
    return re.sub(r"[^\w.-]+", "-", label).strip("-.") or "source"


def _said(
    label: str, job: SynthJob, sentences: Sequence[Sentence], progress: Progress, *, out: Path, seed: int
) -> list[Spoken]:
    lines = [
        Line(
            text=sentence.text,
            out=out / folder_name(label) / f"{sentence.name}.wav",
            seed=seed + number,
            speaker=sentence.speaker,
            language=sentence.language,
        )
        for number, sentence in enumerate(sentences)
    ]
    spoken = []
    for sentence, line, report in zip(sentences, lines, job.speak_all(lines), strict=True):
        error = report.get("error")
        path = line.out if error is None else None
        spoken.append(Spoken(source=label, sentence=sentence, path=path, error=error))
        progress.advance(note=label)
    if all(one.error for one in spoken):
        raise DataError(f"{job.source} said none of {len(spoken)} sentences. The first: {spoken[0].error}")
    return spoken


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
