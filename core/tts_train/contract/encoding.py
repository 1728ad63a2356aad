"""From a chunk of a corpus to a shard of training rows; runs in the processes of ``prepare``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts_train.contract.encoder import Clip, ReadyRows, RowEncoder
from tts_train.corpus import Limits, Rejected, RowRejected, Utterance
from tts_train.corpus.audio.read import Audio, check_pace, read_audio, read_utterance
from tts_train.corpus.audio.stretch import check_seconds
from tts_train.corpus.ledger import Ledger
from tts_train.corpus.rows.utterance import TokenRow
from tts_train.datasets.store.shard_store import Shard, input_key, input_of, printable
from tts_train.errors import TTSTrainError
from tts_train.parallel.processes import own_device

if TYPE_CHECKING:
    from tts_train.contract.encoder import Input


_REFERENCE_SECONDS = 600.0
"""A longer reference is some other recording; how much of a reference is used is for the backend to say."""


@dataclass(frozen=True)
class Done:
    """A chunk that became a shard."""

    shard: Shard
    reused: bool
    rows: int


@dataclass(frozen=True)
class ReadOptions:
    """How recordings are read."""

    min_seconds: float
    max_seconds: float
    root: Path | None
    """Folder that recordings must not leave."""

    @property
    def lengths(self) -> Mapping[str, float]:
        """What rows depend on of it."""
        return {"min_seconds": self.min_seconds, "max_seconds": self.max_seconds}

    def read(self, row: Input, encoder: RowEncoder) -> Clip:
        """Return a row with its text and its sound.

        Raises:
            RowRejected: if it cannot be used.
        """
        if isinstance(row, TokenRow):
            if not encoder.takes_ids:
                raise RowRejected("bad_row", "it holds token ids, and this backend needs a recording and its text")
            return Clip(row, None, None)
        # The text first: it is the cheaper of the two, and as likely to be refused.
        text = encoder.read_text(row)
        limits = Limits(min_seconds=self.min_seconds, max_seconds=self.max_seconds)
        seconds = encoder.seconds_of_codes(row) if row.codes is not None else None
        if seconds is not None:
            check_seconds(seconds, limits)
            check_pace(row.text, seconds)
            return Clip(row, text, None, self._reference(row, encoder), seconds)
        audio = read_utterance(row, sample_rate=encoder.sample_rate, root=self.root, limits=limits)
        encoder.check_sound(audio.samples)
        return Clip(row, text, audio, self._reference(row, encoder), audio.seconds)

    def _reference(self, row: Utterance, encoder: RowEncoder) -> Audio | None:
        if row.reference is None or not encoder.takes_reference:
            return None
        try:
            return _read_reference(row.reference, _stamp(row.reference), encoder.sample_rate, self.root)
        except RowRejected as rejected:
            raise RowRejected(rejected.reason, f"its reference: {rejected.detail}") from None


def _stamp(source: Path | bytes) -> tuple[int, int] | None:
    try:
        about = None if isinstance(source, bytes) else source.stat()
    except OSError:
        return None
    return about and (about.st_size, about.st_mtime_ns)


# Often one for all rows of a speaker.
@lru_cache(maxsize=8)
def _read_reference(source: Path | bytes, stamp: tuple[int, int] | None, sample_rate: int, root: Path | None) -> Audio:
    del stamp  # a file that changed is read again
    return read_audio(source, sample_rate=sample_rate, root=root, limits=Limits(max_seconds=_REFERENCE_SECONDS))


def check_row(row: Input, *, encoder: RowEncoder, reading: ReadOptions) -> Audio | None:
    """Read a row and refuse what :func:`encode_chunk` drops, without networks; see `tts_train.corpus.RowReader`.

    Raises:
        RowRejected: with the reason that :func:`encode_chunk` gives.
    """
    clip = reading.read(row, encoder)
    encoder.check(clip)
    return clip.audio


def encode_chunk(
    chunk: Sequence[Input],
    *,
    encoder: RowEncoder,
    address: Mapping[str, Any],
    reading: ReadOptions,
    device: str,
    out: Path,
) -> Done:
    """Return the shard of a chunk: the one that is there, if it was made from the same input, or a new one."""
    store = encoder.store(out)
    # Of the input, not of the rows made: whether a shard is there is known before anything is encoded.
    key = input_key(address, (part for row in chunk for part in input_of(row)))
    if shard := store.find(key):
        return Done(shard, reused=True, rows=len(chunk))
    ledger, counts = Ledger(), dict.fromkeys(encoder.counted, 0)
    rows: list[Mapping[str, Any]] = []
    for batch in _read(chunk, encoder, reading, ledger):
        for clip, made in zip(batch, _encoded(batch, encoder, own_device(device)), strict=True):
            if isinstance(made, RowRejected):
                ledger.drop(clip.row, made.reason, made.detail)
                continue
            row = _whole(clip, made, encoder)
            warnings = clip.audio.warnings if clip.audio else ()
            ledger.keep(clip.row, seconds=row["seconds"], language=row["language"], warnings=warnings)
            for name in counts:
                counts[name] += row[name]
            rows.append(row)
    return Done(store.write(key, rows, account={"ledger": ledger.state(), **counts}), reused=False, rows=len(chunk))


def write_ready(part: Sequence[Mapping[str, Any] | Rejected], ready: ReadyRows, out: Path) -> Done:
    """Return the shard of rows that are ready: the one that is there, or a new one."""
    ledger, rows, refused = Ledger(), [], list[str]()
    for row in part:
        if isinstance(row, Rejected):
            ledger.drop(row.origin, row.reason, row.detail)
            refused += (row.origin, row.reason, row.detail)
            continue
        ledger.keep(row["origin"], seconds=row["seconds"], language=row["language"])
        rows.append(row)
    store = ready.store(out)
    # A shard brings its account along, so the refused rows decide which shard it is, too.
    key = input_key(ready.address(), chain((piece for row in rows for piece in ready.content(row)), refused))
    shard = store.find(key)
    made = shard or store.write(key, rows, account={"ledger": ledger.state()})
    return Done(made, reused=shard is not None, rows=len(part))


def _read(chunk: Iterable[Input], encoder: RowEncoder, reading: ReadOptions, ledger: Ledger) -> Iterator[list[Clip]]:
    """Yield readable rows in order, some minutes of sound at a time."""
    most = encoder.together * encoder.sample_rate
    batch: list[Clip] = []
    samples = 0
    for row in chunk:
        # Before it is read: a row that is never settled shows in the ledger's report as a fault.
        ledger.begin(row)
        try:
            clip = reading.read(row, encoder)
        except RowRejected as rejected:
            ledger.drop(row, rejected.reason, rejected.detail)
            continue
        # A reference that many rows share is held once.
        shared = batch and batch[-1].reference is clip.reference
        batch.append(clip)
        held = (clip.audio, None if shared else clip.reference)
        samples += sum(len(sound.samples) for sound in held if sound)
        if samples >= most:
            yield batch
            batch, samples = [], 0
    if batch:
        yield batch


def _encoded(clips: Sequence[Clip], encoder: RowEncoder, device: str) -> list[Mapping[str, Any] | RowRejected]:
    """Return what an encoder makes of clips, one for each."""
    author = f"{type(encoder).__qualname__}.encode"
    try:
        # None: a method without a yield or a return.
        made = list(encoder.encode(clips, device) or ())
    except RowRejected as rejected:
        raise TTSTrainError(
            f"{author} raised RowRejected({rejected.reason!r}). It is given many clips: let it yield the RowRejected "
            "in place of the columns of the one that is meant."
        ) from rejected
    if len(made) != len(clips):
        # The rest would get the codes of their neighbours.
        raise TTSTrainError(
            f"{author} was given {len(clips)} clips and yielded {len(made)} rows. Let it yield for each clip, in "
            "order, its columns or a RowRejected."
        )
    return made


def _whole(clip: Clip, made: Mapping[str, Any], encoder: RowEncoder) -> Mapping[str, Any]:
    """Return all columns of a row; refuse one that lacks some, which Parquet would take for null."""
    author = f"{type(encoder).__qualname__}.encode"
    if not isinstance(made, Mapping):
        raise TTSTrainError(
            f"{author} yielded a {type(made).__name__} for {clip.row.origin}. Let it yield the columns as a dict."
        )
    row = {**_columns(clip), **made}
    wanted = dict.fromkeys([*encoder.schema.names, *encoder.counted, "seconds"])
    if missing := [name for name in wanted if name not in row]:
        raise TTSTrainError(
            f"{author} yielded no {', '.join(map(repr, missing))} for {clip.row.origin}, only {', '.join(made)}. Let "
            "it yield every column of the schema and every figure that is counted; None where there is none."
        )
    if row[encoder.length_column] is None:
        raise TTSTrainError(
            f"{author} yielded None as {encoder.length_column!r} for {clip.row.origin}. It is the length_column, by "
            "which batches are made: let it yield a whole number."
        )
    return row


def _columns(clip: Clip) -> dict[str, Any]:
    """Return what every set says of a row."""
    row = clip.row
    text, speaker, language = (row.text, row.speaker, row.language) if isinstance(row, Utterance) else (None,) * 3
    about = {"id": row.id, "text": text, "speaker": speaker, "language": language, "origin": printable(row.origin)}
    return about if clip.seconds is None else {**about, "seconds": clip.seconds}
