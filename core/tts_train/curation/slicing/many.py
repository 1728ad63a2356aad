"""Cuts many recordings: in this process, in several or on a cluster, each of them once for the same settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from tts_train.corpus import RowRejected
from tts_train.corpus.audio.stream import open_stream
from tts_train.curation.job import CorpusJob
from tts_train.curation.slicing.recording import CutRecording, Recording
from tts_train.progress import Progress

Work = Callable[[Recording], CutRecording]


def slice_all(recordings: Sequence[Recording], work: partial[CutRecording], job: CorpusJob) -> list[CutRecording]:
    """Return what became of each recording, in order.

    Args:
        recordings: which.
        work: ``slice_recording`` with its settings.
        job: says how many processes work, and where.

    Raises:
        Interrupted: when asked to stop; recordings that are finished are kept.
    """
    from tts_train.parallel.chunks import run_chunks, run_chunks_on_ray
    from tts_train.parallel.processes import set_worker

    lost: set[str] = set()
    chunks = [[one] for one in recordings]
    found: list[CutRecording] = []
    # Here a file that kills its decoder ends the command in any case; from elsewhere its header is not read here.
    expected = _Expected(recordings, known=not job.workers and job.engine == "local")
    with Progress("Slicing, seconds of sound", expected.total()) as progress:
        if job.engine == "ray":
            results: Iterable[list[CutRecording]] = run_chunks_on_ray(
                partial(_chunk, work=work), chunks, workers=job.workers
            )
        elif job.workers:
            results = run_chunks(
                partial(_chunk, work=work),
                chunks,
                workers=job.workers,
                setup=set_worker,
                lost=lambda one: lost.add(one.name),
            )
        else:
            # Only in this process a recording tells how far it is: by halves, since it is read twice.
            heard = _Told(progress)
            results = run_chunks(partial(_chunk, work=partial(work, told=heard.add)), chunks)
        for number, result in enumerate(results):
            name = recordings[number].name
            crashed = CutRecording(refused="decode_crash", detail="it ended the process that read it")
            found.append(crashed if name in lost else result[0])
            progress.to(*expected.after(found))
    return found


class _Expected:
    """How many seconds of sound there are: by the headers, or by the bytes of those that are done."""

    def __init__(self, recordings: Sequence[Recording], *, known: bool) -> None:
        self._bytes = [_size(one) for one in recordings]
        self._claimed = [_claimed(one) for one in recordings] if known else []

    def total(self) -> int | None:
        """Return the seconds that headers claim; None where they are not read."""
        return max(1, round(sum(self._claimed))) if self._claimed else None

    def after(self, found: Sequence[CutRecording]) -> tuple[int, int | None]:
        """Return the seconds that are done, and those of all recordings."""
        if self._claimed:
            # Claims may be wrong; after each recording they count as kept.
            return round(sum(self._claimed[: len(found)])), self.total()
        done = sum(one.frames / one.rate for one in found if one.rate)
        share = sum(self._bytes[: len(found)]) / max(1, sum(self._bytes))
        return round(done), max(1, round(done / share)) if share else None


class _Told:
    """Counts seconds of a recording that was read once, to be read again."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._rest = progress, 0.0

    def add(self, seconds: float) -> None:
        self._rest += seconds / 2
        whole = int(self._rest)
        self._rest -= whole
        if self._progress.total is not None and self._progress.done + whole <= self._progress.total:
            self._progress.advance(whole)


def _chunk(recordings: list[Recording], *, work: Work) -> list[CutRecording]:
    return [work(one) for one in recordings]


def _size(recording: Recording) -> int:
    try:
        return recording.path.stat().st_size
    except OSError:
        return 0


def _claimed(recording: Recording) -> float:
    try:
        with open_stream(recording.path) as stream:
            return stream.seconds
    except (RowRejected, OSError):
        # It is refused by name when its turn comes.
        return 0.0
