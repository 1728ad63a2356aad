"""The prepare job: recordings with text, or rows of ids, to a folder of training rows."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from tts_train.errors import DataError
from tts_train.jobs import PrepareJob, Report

if TYPE_CHECKING:
    from tts_train.corpus import Corpus, Ledger
    from tts_train_orpheus.chunk import Done, EncodeOptions, Row

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class OrpheusPrepare(PrepareJob):
    """Turn recordings with text into Orpheus's tokens; the same command again continues, or reuses what is there."""

    codec: str = "hubertsiuzdak/snac_24khz"
    """SNAC codec: a hub name, a local folder, or ``tiny`` (small, built in, for trying things out)."""
    tokenizer: str = "canopylabs/orpheus-3b-0.1-pretrained"
    """Tokenizer of the model to train: a hub name, a local folder, or ``tiny``."""
    dedup: bool = True
    """Drop frames that repeat the coarse code of the one before, as the released models were trained."""
    voice_prefix: Literal["auto", "always", "never"] = "auto"
    """Put ``speaker: `` before the text; ``auto`` does so if the corpus names more than one speaker."""
    min_seconds: float = 0.3
    """Recordings (or stretches) shorter than this are dropped."""
    max_seconds: float = 60.0
    """Recordings (or stretches) longer than this are dropped."""
    device: str = "auto"
    """Where the codec computes: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; with ``cuda`` workers take GPUs in turn."""
    shard_rows: int = 64
    """Rows in a shard, on average: what a worker takes at a time, and what is redone after a kill or a change."""
    engine: Literal["local", "ray"] = "local"
    """Who runs the workers: this machine, or a Ray cluster (needs the ``ray`` extra and shared storage)."""

    def run(self) -> Report:
        """Encode what is not encoded yet, write the index, and report."""
        from tts_train.data.shard_store import disk_errors
        from tts_train.run.lock import RunLock

        with disk_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
        with RunLock(self.out / ".prepare.lock"):
            report = self._prepare()
        _say(report, self.dedup)
        return report

    def _prepare(self) -> dict[str, Any]:
        from tts_train.corpus import Ledger, kept_utterances, open_corpus
        from tts_train.data.chunks import cut
        from tts_train_orpheus.encode import encode_chunk, open_store

        started = time.monotonic()
        corpus = open_corpus(self.corpus, layout=self.corpus_format)
        census = _census(corpus)
        options = self._options(census)
        store, ledger = open_store(self.out), Ledger()
        chunks = cut(kept_utterances(corpus, ledger), size=self.shard_rows, key=lambda row: row.id)
        work = partial(encode_chunk, options=options, out=self.out, root=corpus.root)
        encoding = time.monotonic()
        done = list(self._progress(self._results(work, chunks), ledger, total=census.rows))
        ended = time.monotonic()
        ledger.write_dropped(self.out / "dropped.jsonl")
        ledger.enforce(self.max_dropped)
        report = _facts(ledger, done)
        settings = {**options.address(), "codec": self.codec, "tokenizer": self.tokenizer}
        index = store.finish([one.shard for one in done], settings=settings, report=report)
        tokens = {"tokens": index["lengths"]["total"], "hash": index["hash"], "out": str(self.out)}
        return {**report, **tokens, **_work_done(done, ended - encoding), "seconds": round(ended - started, 2)}

    def _options(self, census: _Census) -> EncodeOptions:
        import xxhash

        from tts_train_orpheus.chunk import EncodeOptions
        from tts_train_orpheus.encode import choose_device, codec_on, place_of, tokenizer_of

        device = choose_device(self.device)
        vocabulary = tokenizer_of(self.tokenizer).backend_tokenizer.to_str()
        # With workers, this process computes nothing and need not take a part of the GPU.
        codec = codec_on(self.codec, "cpu" if self.workers or self.engine == "ray" else place_of(device))
        return EncodeOptions(
            codec=self.codec,
            codec_fingerprint=codec.fingerprint,
            tokenizer=self.tokenizer,
            tokenizer_fingerprint=xxhash.xxh3_64_hexdigest(vocabulary.encode()),
            dedup=self.dedup,
            voice_prefix=_prefix(self.voice_prefix, census),
            min_seconds=self.min_seconds,
            max_seconds=self.max_seconds,
            decoders=("av",) if importlib.util.find_spec("av") else (),
            device=device,
        )

    def _results(self, work: partial[Done], chunks: Iterator[list[Row]]) -> Iterator[Done]:
        from tts_train.data.chunks import run_chunks, run_chunks_on_ray
        from tts_train_orpheus.encode import set_number

        if self.engine == "ray":
            return run_chunks_on_ray(work, chunks, workers=self.workers)
        return run_chunks(work, chunks, workers=self.workers, setup=set_number)

    def _progress(self, results: Iterator[Done], ledger: Ledger, *, total: int) -> Iterator[Done]:
        from tts_train.corpus import Ledger as Account
        from tts_train.progress import Progress

        with Progress("Preparing", total) as progress:
            for result in results:
                ledger.merge(Account.from_state(result.shard.account["ledger"]))
                progress.advance(result.rows, note=f"{ledger.seconds / 3600:.2f} h")
                yield result


@dataclass(frozen=True)
class _Census:
    """A first look at a corpus: its usable rows and who speaks them."""

    rows: int
    tokenised: int
    speakers: Counter[str | None]

    @property
    def named(self) -> int:
        return sum(name is not None for name in self.speakers)


def _census(corpus: Corpus) -> _Census:
    from tts_train.corpus import Rejected, TokenRow

    rows, tokenised, speakers = 0, 0, Counter[str | None]()
    for row in corpus.rows():
        if isinstance(row, Rejected):
            continue
        rows += 1
        if isinstance(row, TokenRow):
            tokenised += 1
        else:
            speakers[row.speaker] += 1
    return _Census(rows, tokenised, speakers)


def _prefix(choice: str, census: _Census) -> bool:
    """Decide whether voices are named in the text, and say what that leaves open."""
    named, nameless = census.named, census.speakers[None]
    if choice == "always" and not named and census.speakers:
        raise DataError(
            "--voice_prefix always: the corpus names no speaker. Add a column (speaker or source), "
            "or use --voice_prefix never."
        )
    if choice == "never" and named > 1:
        _log.warning("%d speakers and --voice_prefix never: their voices will blend. Leave it at auto.", named)
    prefix = choice == "always" or (choice == "auto" and named > 1)
    if prefix and nameless:
        _log.warning("%d rows name no speaker and get no prefix; their voice will not answer to a name.", nameless)
    if prefix:
        _log.info("Texts get the speaker's name in front (%d speakers), as in 'tara: Hello.'", named)
    return prefix


def _facts(ledger: Ledger, done: list[Done]) -> dict[str, Any]:
    """Return what is so however often and wherever it is computed; it goes into the index."""
    accounts = [one.shard.account for one in done]
    frames = sum(account["frames"] for account in accounts)
    repeated = sum(account["frames_repeated"] for account in accounts)
    share = round(repeated / (frames + repeated), 4) if frames else 0.0
    return {**ledger.report(), "frames": frames, "frames_repeated": repeated, "frames_repeated_share": share}


def _work_done(done: list[Done], seconds: float) -> dict[str, Any]:
    new = [one for one in done if not one.reused]
    encoded = sum(one.shard.account["ledger"]["seconds"] for one in new)
    return {
        "shards_written": len(new),
        "shards_reused": len(done) - len(new),
        "rows_reused": sum(one.rows for one in done if one.reused),
        "audio_seconds_per_second": round(encoded / seconds, 2) if seconds else 0.0,
    }


def _say(report: Report, dedup: bool) -> None:
    _log.info(
        "%d of %d rows, %.2f h; %d shards written, %d reused.",
        *(report[name] for name in ("kept", "rows", "hours", "shards_written", "shards_reused")),
    )
    if dedup and report["frames_repeated"]:
        _log.info(
            "%d frames (%.1f %%) repeat the coarse code of the one before and were left out; --dedup false keeps them.",
            report["frames_repeated"],
            100 * report["frames_repeated_share"],
        )
