"""What every backend's ``prepare`` does around its own encoding: census, chunks, workers, ledger, index, report."""

from __future__ import annotations

import importlib.util
import logging
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tts_train.contract.jobs import PrepareJob
from tts_train.contract.reports import PrepareReport, Report
from tts_train.errors import DiskError
from tts_train.reasons import REASONS, WARNINGS, with_reasons

if TYPE_CHECKING:
    from tts_train.corpus import Corpus, Ledger, RowReader, TokenRow, Utterance
    from tts_train.datasets.store.shard_store import Shard, ShardStore

    Input: TypeAlias = "Utterance | TokenRow"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """A chunk that became a shard."""

    shard: Shard
    reused: bool
    rows: int


@dataclass(frozen=True)
class Encoding:
    """How a backend encodes a corpus."""

    work: Callable[[list[Input]], Done]
    """Makes the shard of a chunk; a function of a module, or a ``partial`` of one, which processes can import."""
    store: ShardStore
    """Where shards go."""
    settings: Mapping[str, Any]
    """What the rows were made with, for whoever reads them."""


@dataclass(frozen=True)
class Census:
    """A first look at a corpus: its usable rows and who speaks them."""

    rows: int
    tokenised: int
    speakers: Counter[str | None]
    languages: Counter[str | None]
    rejected: int = 0
    """Rows that the rules of rows refuse."""
    labelled: int = 0
    """Tokenised rows that say on which ids a loss is taken."""

    @property
    def named(self) -> int:
        """Speakers that have a name."""
        return sum(name is not None for name in self.speakers)


@dataclass(kw_only=True)
class ShardedPrepare(PrepareJob):
    """Encode a corpus chunk by chunk; the same command again continues, or reuses what is there."""

    min_seconds: float = 0.3
    """Recordings (or stretches) shorter than this are dropped."""
    max_seconds: float = 60.0
    """Recordings (or stretches) longer than this are dropped."""
    device: str = "auto"
    """Where to compute: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; with ``cuda`` workers take GPUs in turn."""
    shard_rows: int = 64
    """Rows in a shard, on average: what a worker takes at a time, and what is redone after a kill or a change."""
    engine: Literal["local", "ray"] = "local"
    """Who runs the workers: this machine, or a Ray cluster (needs the ``ray`` extra and shared storage)."""

    @abstractmethod
    def encoding(self, corpus: Corpus, census: Census) -> Encoding:
        """Say how the corpus is encoded, once its rows were counted."""

    def reader(self, corpus: Corpus) -> RowReader | None:
        """Return a reader of rows with the limits on length; a backend that refuses more overrides this."""
        from tts_train.corpus import Limits, read_row

        limits = Limits(min_seconds=self.min_seconds, max_seconds=self.max_seconds)
        return partial(read_row, root=corpus.root, limits=limits)

    def facts(self, done: Sequence[Done]) -> Mapping[str, Any]:
        """Return what the report says besides the ledger, the same however often and wherever it was computed."""
        return {}

    def run(self) -> Report:
        """Encode what is not encoded yet, write the index, and report."""
        self.check_places()
        report = self._prepare()
        _log.info(
            "%d of %d rows, %.2f h; %d shards written, %d reused.",
            report.kept,
            report.rows,
            report.hours,
            report.shards_written,
            report.shards_reused,
        )
        return report

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Make the prepared folder and hold it against other writers.

        Work that can refuse comes before: a refused command leaves nothing behind.
        """
        from tts_train.disk.files import disk_errors
        from tts_train.run.lock import RunLock

        made = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
        lock = RunLock(self.out / ".prepare.lock", option="--out")
        with disk_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(lock)
            except DiskError:
                with suppress(OSError):
                    if made:
                        lock.path.unlink(missing_ok=True)
                    for folder in made:
                        folder.rmdir()
                raise
            yield

    @property
    def computes_here(self) -> bool:
        """Whether this process encodes; with workers it need not take a part of the GPU."""
        return not self.workers and self.engine == "local"

    def _prepare(self) -> PrepareReport:
        from tts_train.corpus import Ledger, kept_utterances, no_rows, open_corpus
        from tts_train.parallel.chunks import cut

        started = time.monotonic()
        corpus = open_corpus(self.corpus, layout=self.corpus_format)
        census = take_census(corpus)
        if not census.rows and not census.rejected:
            raise no_rows()
        encoding = self.encoding(corpus, census)
        ledger = Ledger()
        chunks = cut(kept_utterances(corpus, ledger), size=self.shard_rows, key=lambda row: row.id)
        with self.holding():
            began = time.monotonic()
            done = list(self._progress(self._results(encoding.work, chunks, ledger), ledger, total=census.rows))
            return self._finish(encoding.store, encoding.settings, ledger, done, started=started, began=began)

    def _finish(
        self,
        store: ShardStore,
        settings: Mapping[str, Any],
        ledger: Ledger,
        done: Sequence[Done],
        *,
        started: float,
        began: float,
    ) -> PrepareReport:
        from tts_train.datasets.store.shard_store import DROPPED_FILE
        from tts_train.disk.files import disk_errors

        ended = time.monotonic()
        with disk_errors(self.out):
            ledger.write_dropped(self.out / DROPPED_FILE)
        ledger.enforce(self.max_dropped)
        account, facts = ledger.report(), self.facts(done)
        index = store.finish([one.shard for one in done], settings=settings, report={**account, **facts})
        return PrepareReport(
            **account,
            facts=facts,
            tokens=index["lengths"]["total"],
            hash=index["hash"],
            out=str(self.out),
            **_work_done(done, ended - began),
            seconds=round(ended - started, 2),
        )

    def _results(
        self, work: Callable[[list[Input]], Done], chunks: Iterator[list[Input]], ledger: Ledger
    ) -> Iterator[Done]:
        from tts_train.parallel.chunks import run_chunks, run_chunks_on_ray
        from tts_train.parallel.devices import set_worker

        # Processes start afresh and import the work, not the plugin that named the backend's reasons.
        work = partial(with_reasons, work, dict(REASONS), dict(WARNINGS))
        if self.engine == "ray":
            return run_chunks_on_ray(work, chunks, workers=self.workers)
        return run_chunks(work, chunks, workers=self.workers, setup=set_worker, lost=ledger.drop_deadly)

    def _progress(self, results: Iterator[Done], ledger: Ledger, *, total: int) -> Iterator[Done]:
        from tts_train.corpus import Ledger as Account
        from tts_train.progress import Progress

        with Progress("Preparing", total) as progress:
            for result in results:
                ledger.merge(Account.from_state(result.shard.account["ledger"]))
                progress.advance(result.rows, note=f"{ledger.seconds / 3600:.2f} h")
                yield result


def optional_decoders() -> tuple[str, ...]:
    """Return the optional audio decoders that are installed: with another one, rows that were dropped may be read."""
    return ("av",) if importlib.util.find_spec("av") else ()


def take_census(corpus: Corpus) -> Census:
    """Count a corpus's usable rows, speakers and languages."""
    from tts_train.corpus import Rejected, TokenRow

    rows, tokenised, rejected, labelled = 0, 0, 0, 0
    speakers, languages = Counter[str | None](), Counter[str | None]()
    for row in corpus.rows():
        if isinstance(row, Rejected):
            rejected += 1
            continue
        rows += 1
        if isinstance(row, TokenRow):
            tokenised += 1
            labelled += row.labels is not None and bool((row.labels != row.input_ids).any())
        else:
            speakers[row.speaker] += 1
            languages[row.language] += 1
    return Census(rows, tokenised, speakers, languages, rejected, labelled)


def _work_done(done: Sequence[Done], seconds: float) -> dict[str, Any]:
    new = [one for one in done if not one.reused]
    encoded = sum(one.shard.account["ledger"]["seconds"] for one in new)
    return {
        "shards_written": len(new),
        "shards_reused": len(done) - len(new),
        "rows_reused": sum(one.rows for one in done if one.reused),
        "audio_seconds_per_second": round(encoded / seconds, 2) if seconds else 0.0,
    }
