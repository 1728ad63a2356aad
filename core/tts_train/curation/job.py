"""What every verb of ``tts-train corpus`` has: options, and work on clips that continues where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import xxhash

from tts_train.contract.jobs import Job
from tts_train.curation.folder import WORK, CorpusFolder
from tts_train.curation.row import ClipRow
from tts_train.disk.files import hash_file, write_json
from tts_train.progress import Progress

if TYPE_CHECKING:
    from tts_train.corpus import RowRejected

Facts: TypeAlias = "dict[str, Any]"
"""What a step found out about one clip, in plain types; ``error`` says why it found nothing."""
_CHUNK = 16


def _no_part(row: ClipRow) -> None:
    """Depend on the clip alone."""
    del row


@dataclass(kw_only=True)
class CorpusVerb(Job):
    """One verb of ``tts-train corpus``."""

    positional: ClassVar[str]
    """The field that is given without an option; a list takes one word or more."""
    positional_help: ClassVar[str]
    """What its help says."""


@dataclass(kw_only=True)
class CorpusJob(CorpusVerb):
    """A verb that reads sounds, and can do so in several processes."""

    workers: int = 0
    """Processes that read and measure sounds; with 0 it is this one, which ends if a file crashes its decoder."""
    engine: Literal["local", "ray"] = "local"
    """``ray`` takes the processes of a Ray cluster; the folder must be on storage that all machines share."""


@dataclass(frozen=True, kw_only=True)
class ClipWork:
    """What is done with one clip: a function of a module, with settings that its result depends on."""

    name: str
    """Folder below ``.work`` that keeps results."""
    measure: Callable[[Path, ClipRow], Facts] | None = None
    """Raises RowRejected for a clip that it cannot use, which becomes ``error``."""
    measure_many: Callable[[Sequence[Path], Sequence[ClipRow]], list[Facts]] | None = None
    """In its place where several clips at once take less time; gives :func:`rejection` for one that cannot be used."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Everything besides the clip that the result depends on, in plain types."""
    of_row: Callable[[ClipRow], Any] = _no_part
    """What of the row the result depends on, in plain types."""


def measure_clips(
    folder: CorpusFolder, rows: Sequence[ClipRow], work: ClipWork, *, title: str, job: CorpusJob
) -> list[Facts]:
    """Return what a step finds out about each clip, in order; what an earlier command found is taken from its files.

    Args:
        folder: holds the clips.
        rows: which of them.
        work: what is done.
        title: for the progress, a word or two.
        job: says how many processes work, and where.

    Raises:
        TTSTrainError: if processes are killed and no clip is to blame.
        Interrupted: when asked to stop; finished chunks are kept.
    """
    from tts_train.parallel.chunks import cut, run_chunks, run_chunks_on_ray
    from tts_train.parallel.processes import set_worker

    lost: set[str] = set()
    chunks = list(cut(rows, size=_CHUNK, key=lambda row: row.audio))
    (folder.path / WORK / work.name).mkdir(parents=True, exist_ok=True)
    task = partial(_measured, folder=folder.path, work=work)
    if job.engine == "ray":
        results: Iterable[list[Facts]] = run_chunks_on_ray(task, chunks, workers=job.workers)
    else:
        results = run_chunks(task, chunks, workers=job.workers, setup=set_worker, lost=lambda row: lost.add(row.audio))
    found: list[Facts] = []
    with Progress(title, len(rows)) as progress:
        for chunk, result in zip(chunks, results, strict=True):
            told = iter(result)
            found += [{"error": "decode_crash"} if row.audio in lost else next(told) for row in chunk]
            progress.advance(len(chunk))
    return found


def _measured(rows: list[ClipRow], *, folder: Path, work: ClipWork) -> list[Facts]:
    """Measure one chunk, or take what was measured of the same clips with the same settings."""
    clips = [CorpusFolder(folder).clip(row) for row in rows]
    asked = json.dumps([work.settings, list(_inputs(rows, clips, work))], sort_keys=True)
    key = xxhash.xxh3_128_hexdigest(asked.encode())
    file = folder / WORK / work.name / f"{key}.json"
    if (known := _known(file, len(rows))) is not None:
        return known
    if work.measure_many is None:
        found = [_one(work, clip, row) for clip, row in zip(clips, rows, strict=True)]
    else:
        found = work.measure_many(clips, rows)
    write_json(file, found)
    return found


def _one(work: ClipWork, clip: Path, row: ClipRow) -> Facts:
    from tts_train.corpus import RowRejected

    assert work.measure is not None
    try:
        return work.measure(clip, row)
    except RowRejected as rejected:
        return rejection(rejected)


def rejection(rejected: RowRejected) -> Facts:
    """Return what is kept of a clip that cannot be used."""
    return {"error": rejected.reason, "detail": rejected.detail}


def _inputs(rows: Sequence[ClipRow], clips: Sequence[Path], work: ClipWork) -> Iterator[list[Any]]:
    for row, clip in zip(rows, clips, strict=True):
        # The file's content, not its time: a clip that was edited by hand is measured again.
        yield [row.audio, hash_file(clip) if clip.is_file() else None, work.of_row(row)]


def _known(file: Path, count: int) -> list[Facts] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    # Not there, or cut short by a full disk: it is measured again.
    except (OSError, ValueError):
        return None
    return found if isinstance(found, list) and len(found) == count else None
