"""Draws and measures takes, part by part: a command that was killed goes on with the next part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import xxhash

from tts_train.contract.jobs import Drawn, Line, SynthJob
from tts_train.contract.metric import Metric, Take
from tts_train.disk.sound_files import write_sound
from tts_train.errors import DataError
from tts_train.progress import Progress
from tts_train.sampling.guards import guard
from tts_train.sampling.parts import AUDIO, Lacking, Parts
from tts_train.sampling.texts import Texts
from tts_train.scoring.scores import measure
from tts_train.scoring.sentences import Sentence, TextRow
from tts_train.sound import Sound

TAKES_OF_A_PART = 64
"""Takes that are drawn together: what is lost at most when the command is killed."""
_PLAIN = re.compile(r"[A-Za-z0-9][\w-]{0,63}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class TakePlan:
    """What is drawn of which text."""

    texts: Texts
    n: int
    """Takes of each text."""
    seed: int
    sounds: bool
    """Whether sounds are kept while the rewards are not known."""

    @property
    def parts(self) -> list[Sequence[TextRow]]:
        """Whole texts that are drawn together."""
        # Whole texts, so that a text's recording is read once.
        size = max(1, TAKES_OF_A_PART // self.n)
        rows = self.texts.rows
        return [rows[first : first + size] for first in range(0, len(rows), size)]


def seed_of(text_id: str, take: int, *, seed: int) -> int:
    """Return the seed of a take, from 0 to 2^32 - 1: ``tts-train synth --seed`` says the same again.

    A function of the text's id, the take's number and the command's seed alone, so texts beside it change nothing.
    """
    told = f"{seed}\0{take}\0{text_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(told, digest_size=4).digest(), "big")


def folders_of(text_ids: Sequence[str]) -> dict[str, str]:
    """Return a name for the folder of each text's sounds: its id where that can be one, else a hash of it besides."""
    # Without case: on some systems a folder's name has none.
    folded = Counter(text_id.casefold() for text_id in text_ids)
    return {
        text_id: text_id if _PLAIN.fullmatch(text_id) and folded[text_id.casefold()] == 1 else _hashed(text_id)
        for text_id in text_ids
    }


def _hashed(text_id: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", text_id).strip("-")[:32] or "text"
    return f"{readable}-{xxhash.xxh3_64_hexdigest(text_id.encode('utf-8', 'surrogatepass'))}"


def draw_parts(job: SynthJob, plan: TakePlan, metrics: Sequence[Metric], parts: Parts) -> None:
    """Draw and measure every part that is not there yet.

    Raises:
        DataError: if no take of the first part that was drawn has a sound; nothing of it is kept then.
    """
    wanted = plan.parts
    folders = folders_of([row.id for row in plan.texts.rows])
    # Each by itself: a part that was damaged is drawn again, and not all behind it.
    there = [parts.finished(number, plan.n * len(rows)) for number, rows in enumerate(wanted)]
    done = plan.n * sum(len(rows) for rows, known in zip(wanted, there, strict=True) if known)
    with Progress("Drawing takes", plan.n * len(plan.texts.rows), done=done) as progress:
        for number, rows in enumerate(wanted):
            if there[number]:
                continue
            lacking: Lacking = Counter()
            made = _draw_part(job, plan, rows, metrics, lacking, parts.out, folders, progress)
            # After a minute and not after hours: a model without a sound in so many takes has none later.
            if not any(there):
                _require_a_sound(made, job, before=plan.n * sum(map(len, wanted[:number])), last=rows is wanted[-1])
            parts.write(number, made, lacking)
            there[number] = any(row["seconds"] for row in made)


def _draw_part(
    job: SynthJob,
    plan: TakePlan,
    rows: Sequence[TextRow],
    metrics: Sequence[Metric],
    lacking: Lacking,
    out: Path,
    folders: Mapping[str, str],
    progress: Progress,
) -> list[dict[str, Any]]:
    asked = [(row, take) for row in rows for take in range(plan.n)]
    made: list[dict[str, Any]] = []
    sentence: Sentence | None = None
    # strict: a take too few or too many would give texts the sounds of others.
    for (row, take), drawn in zip(asked, job.draw([_line(*each, plan, out) for each in asked]), strict=True):
        said = _heard(drawn)
        # Read once for all takes of a text.
        sentence = plan.texts.sentence(row) if sentence is None or sentence.id != row.id else sentence
        file = Path(AUDIO, folders[row.id], f"{take}.wav")
        about = _about(row, take, plan, said, _kept(said, out, file) if plan.sounds else None)
        made.append(about | measured(said, sentence, metrics, lacking) | dict(said.columns))
        progress.advance(note=row.id)
    return made


def _heard(drawn: Drawn) -> Drawn:
    """Return a take without a sound where that has no samples."""
    if drawn.sound is None or len(drawn.sound.samples):
        return drawn
    return replace(drawn, sound=None, error=drawn.error or "its sound has no samples")


def _line(row: TextRow, take: int, plan: TakePlan, out: Path) -> Line:
    seed = seed_of(row.id, take, seed=plan.seed)
    return Line(text=row.text, out=out, seed=seed, speaker=row.speaker, language=row.language)


def _about(row: TextRow, take: int, plan: TakePlan, said: Drawn, sound: str | None) -> dict[str, Any]:
    return {
        "text_id": row.id,
        "take": take,
        "seed": seed_of(row.id, take, seed=plan.seed),
        "text": row.text,
        "speaker": row.speaker,
        "language": row.language,
        "seconds": None if said.sound is None else said.sound.seconds,
        "ended": said.ended,
        "error": said.error,
        "missed": [],
        "reward": None,
        "sound": sound,
    }


def measured(said: Drawn, sentence: Sentence, metrics: Sequence[Metric], lacking: Lacking) -> dict[str, float]:
    """Return the figures of a take, those of the guards and those of metrics, as far as it has them."""
    # A take without sound has no figures, and so no part in their means; the reward puts it last.
    if said.sound is None:
        return {}
    return {**guard(said), **measure(held_against(sentence, said.sound), metrics, lacking)}


def held_against(sentence: Sentence, sound: Sound) -> Take:
    """Return a sound that says a sentence with what it is compared with."""
    return Take(
        sound=sound,
        text=sentence.text,
        language=sentence.language,
        reference=sentence.recording,
        voice=sentence.voice,
    )


def _kept(said: Drawn, out: Path, file: Path) -> str | None:
    if said.sound is None:
        return None
    import torch

    write_sound(out / file, torch.from_numpy(said.sound.samples), sample_rate=said.sound.sample_rate)
    return file.as_posix()


def _require_a_sound(made: Sequence[Mapping[str, Any]], job: SynthJob, *, before: int, last: bool) -> None:
    """Refuse a model that says nothing; texts that cannot be drawn tell nothing of it, unless none is left."""
    drawn = any(row.get(name) is not None for row in made for name in job.drawn_columns())
    if not any(row["seconds"] for row in made) and (drawn or last):
        raise DataError(
            f"None of the first {before + len(made)} takes of {job.source} has a sound, so nothing of them was kept. "
            f"The first: {made[0]['error']}"
        )
