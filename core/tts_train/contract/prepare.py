"""What every backend's ``prepare`` does around its own encoding: census, chunks, workers, ledger, index, report."""

from __future__ import annotations

import importlib.util
import logging
import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from tts_train.contract.encoder import Census, ReadyRows, RowEncoder
from tts_train.contract.jobs import PrepareJob
from tts_train.contract.reports import PrepareReport, Report
from tts_train.corpus.reasons import REASONS, WARNINGS, with_reasons
from tts_train.errors import ConfigError, DataError, DiskError

if TYPE_CHECKING:
    from tts_train.contract.encoding import Done
    from tts_train.corpus.audio.read import RowReader
    from tts_train.corpus.ledger import Ledger
    from tts_train.corpus.read import Corpus
    from tts_train.datasets.store.shard_store import ShardStore

_log = logging.getLogger(__name__)


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
    def reading(self) -> RowEncoder | ReadyRows:
        """Return what reads a row, without loading or fetching a network; or rows that need no encoding."""

    @abstractmethod
    def encoder(self, census: Census, device: str) -> RowEncoder:
        """Return what encodes the corpus, with the fingerprints of its networks; not called for :class:`ReadyRows`.

        Args:
            census: what is in the corpus.
            device: where to load networks in this process: where it encodes, or ``cpu`` if only others do.

        Raises:
            TTSTrainError: if the corpus or the networks cannot be used.
        """

    def reader(self, corpus: Corpus) -> RowReader | None:
        """Return what reads a row as the processes of this job do; None where rows are taken over as they are."""
        from tts_train.contract.encoding import ReadOptions, check_row

        found = self.reading()
        if isinstance(found, ReadyRows):
            return None
        return partial(check_row, encoder=found, reading=ReadOptions(self.min_seconds, self.max_seconds, corpus.root))

    def run(self) -> Report:
        """Encode what is not encoded yet, write the index, and report."""
        self.check_places()
        found = self.reading()
        self._refuse_other_kind(found.kind)
        report = self._take_over(found) if isinstance(found, ReadyRows) else self._encode()
        _log.info(
            "%d of %d rows, %.2f h; %d shards written, %d reused.",
            report.kept,
            report.rows,
            report.hours,
            report.shards_written,
            report.shards_reused,
        )
        return report

    def _refuse_other_kind(self, kind: str) -> None:
        from tts_train.datasets.store.shards import is_prepared, read_index

        if not is_prepared(self.out):
            return
        try:
            there = read_index(self.out)["kind"]
        except DataError:
            # A damaged set is made again, which is how it is repaired.
            return
        if there != kind:
            raise ConfigError(
                f"--out {self.out} is a prepared set of {there}, which another backend wrote, and this command writes "
                f"{kind}. Give another --out, or remove the folder."
            )

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Make the prepared folder and hold it against other writers.

        Work that can refuse comes before: a refused command leaves nothing behind.
        """
        from tts_train.disk.files import disk_errors
        from tts_train.run.lock import RunLock

        # Asked before anything is made: these alone are removed again, the innermost first.
        made = [folder for folder in (self.out, *self.out.parents) if not folder.exists()]
        lock = RunLock(self.out / ".prepare.lock", option="--out")
        with disk_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(lock)
            except DiskError:
                with suppress(OSError):
                    # Only in a folder that was made here: in any other the lock file may be somebody else's.
                    if made:
                        lock.path.unlink(missing_ok=True)
                    for folder in made:
                        folder.rmdir()
                raise
            yield

    def _encode(self) -> PrepareReport:
        from tts_train.contract.encoding import ReadOptions, encode_chunk
        from tts_train.corpus.ledger import Ledger, no_rows
        from tts_train.corpus.read import kept_utterances, open_corpus
        from tts_train.parallel.chunks import cut
        from tts_train.parallel.processes import choose_device, own_device

        started = time.monotonic()
        corpus = open_corpus(self.corpus, layout=self.corpus_format)
        # A pass over the rows alone, without sound: names of speakers decide how every text is written.
        census = take_census(corpus)
        if not census.rows and not census.rejected:
            raise no_rows()
        device = choose_device(self.device)
        # Where workers encode, this process only takes fingerprints: it must not take a part of the GPU from them.
        encodes_here = not self.workers and self.engine == "local"
        encoder = self.encoder(census, own_device(device) if encodes_here else "cpu")
        reading = ReadOptions(self.min_seconds, self.max_seconds, corpus.root)
        # With another decoder, rows that were dropped may be read.
        address = encoder.address({**reading.lengths, "decoders": optional_decoders()})
        work = partial(encode_chunk, encoder=encoder, address=address, reading=reading, device=device, out=self.out)
        ledger = Ledger()
        chunks = cut(kept_utterances(corpus, ledger), size=self.shard_rows, key=lambda row: row.id)
        with self.holding():
            # From here on rows are encoded: the speed that is reported does not count what loading networks took.
            began = time.monotonic()
            done = list(_progress(self._results(work, chunks, ledger), ledger, "Preparing", total=census.rows))
            # From the accounts, which shards that are used again bring along.
            counts = {name: sum(one.shard.account[name] for one in done) for name in encoder.counted}
            settings, facts = {**address, **encoder.remembered()}, encoder.facts(counts)
            return self._finish(encoder.store(self.out), settings, facts, ledger, done, times=(started, began))

    def _take_over(self, ready: ReadyRows) -> PrepareReport:
        from tts_train.contract.encoding import write_ready
        from tts_train.corpus.ledger import Ledger

        started = time.monotonic()
        settings = ready.settings()
        with self.holding():
            began, ledger, rows = time.monotonic(), Ledger(), ready.rows()
            parts = iter(lambda: list(islice(rows, self.shard_rows)), [])
            results = (write_ready(part, ready, self.out) for part in parts)
            done = list(_progress(results, ledger, "Taking over", total=ready.count()))
            return self._finish(ready.store(self.out), settings, {}, ledger, done, times=(started, began))

    def _finish(
        self,
        store: ShardStore,
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
        ledger: Ledger,
        done: Sequence[Done],
        *,
        times: tuple[float, float],
    ) -> PrepareReport:
        from tts_train.datasets.store.shard_store import DROPPED_FILE
        from tts_train.disk.files import disk_errors

        ended = time.monotonic()
        with disk_errors(self.out):
            # Before the refusal below: it sends users to this file.
            ledger.write_dropped(self.out / DROPPED_FILE)
        ledger.enforce(self.max_dropped)
        account = ledger.report()
        index = store.finish([one.shard for one in done], settings=settings, report={**account, **facts})
        started, began = times
        return PrepareReport(
            **account,
            facts=facts,
            tokens=index["lengths"]["total"],
            hash=index["hash"],
            out=str(self.out),
            **_work_done(done, ended - began),
            seconds=round(ended - started, 2),
        )

    def _results(self, work: partial[Done], chunks: Iterator[list[Any]], ledger: Ledger) -> Iterator[Done]:
        from tts_train.parallel.chunks import run_chunks, run_chunks_on_ray
        from tts_train.parallel.processes import set_worker

        # Processes start afresh and import the work, not the plugin that named the backend's reasons.
        # As dicts, since a MappingProxyType cannot be pickled.
        told = partial(with_reasons, work, dict(REASONS), dict(WARNINGS))
        if self.engine == "ray":
            return run_chunks_on_ray(told, chunks, workers=self.workers)
        return run_chunks(told, chunks, workers=self.workers, setup=set_worker, lost=ledger.drop_deadly)


def _progress(results: Iterable[Done], ledger: Ledger, title: str, *, total: int) -> Iterator[Done]:
    from tts_train.corpus.ledger import Ledger as Account
    from tts_train.progress import Progress

    with Progress(title, total) as progress:
        for result in results:
            ledger.merge(Account.from_state(result.shard.account["ledger"]))
            progress.advance(result.rows, note=f"{ledger.seconds / 3600:.2f} h")
            yield result


def optional_decoders() -> tuple[str, ...]:
    """Return the optional audio decoders that are installed."""
    return ("av",) if importlib.util.find_spec("av") else ()


def take_census(corpus: Corpus) -> Census:
    """Count a corpus's usable rows, speakers and languages."""
    from tts_train.corpus import Rejected
    from tts_train.corpus.rows.utterance import TokenRow

    rows, tokenised, rejected, labelled = 0, 0, 0, 0
    speakers, languages = Counter[str | None](), Counter[str | None]()
    for row in corpus.rows():
        if isinstance(row, Rejected):
            rejected += 1
            continue
        rows += 1
        if isinstance(row, TokenRow):
            tokenised += 1
            # Labels that repeat every id say no more than a row without them: a loss is taken on all.
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
