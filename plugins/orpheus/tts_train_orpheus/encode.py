"""From a chunk of utterances to a shard of training rows; runs in the processes of ``prepare``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from tts_train.corpus import Audio, AudioRejected, Ledger, Limits, RowRejected, TokenRow, Utterance, read_utterance
from tts_train.corpus.rows.token_lists import NO_LABEL, TokenLists
from tts_train.datasets.store.inputs import input_of, printable
from tts_train.datasets.store.shard_store import ShardStore, input_key
from tts_train.errors import DataError
from tts_train.parallel.devices import own_device
from tts_train.preparing.prepare import Done
from tts_train_orpheus.chunk import KIND, EncodeOptions, Row
from tts_train_orpheus.codec import Codec, load_codec
from tts_train_orpheus.layout import FRAME_SAMPLES, SAMPLE_RATE, codes_to_tokens, drop_repeated_frames
from tts_train_orpheus.prompt import encode_text, speech_row
from tts_train_orpheus.token_rows import Inspected, inspect_rows, without_padding
from tts_train_orpheus.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("input_ids", pa.list_(pa.int32())),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("num_tokens", pa.int32()),
        pa.field("frames", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("speaker", pa.string()),
        pa.field("language", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("origin", pa.string()),
    ]
)

LABELS = pa.field("labels", pa.list_(pa.int32()))
"""Where a corpus has labels: -100 on ids that are not learnt, the id elsewhere; null where all are."""

TOGETHER = 24_000 * 600
"""Samples that are read before they are encoded: 58 MB, and enough clips of like length for full batches."""


def encode_chunk(chunk: Sequence[Row], *, options: EncodeOptions, out: Path, root: Path | None) -> Done:
    """Return the shard of a chunk: the one that is there, if it was made from the same input, or a new one."""
    store = open_store(out, labelled=options.labelled)
    key = input_key(options.address(), (part for row in chunk for part in input_of(row)))
    if shard := store.find(key):
        return Done(shard, reused=True, rows=len(chunk))
    ledger, counts = Ledger(), {"frames": 0, "frames_repeated": 0}
    rows = list(_encode(chunk, ledger, counts, options=options, root=root))
    shard = store.write(key, rows, account={"ledger": ledger.state(), **counts})
    return Done(shard, reused=False, rows=len(chunk))


def open_store(out: Path, *, labelled: bool = False) -> ShardStore:
    """Return the shards of a prepared folder, with a column for labels or without."""
    return ShardStore(out, SCHEMA.append(LABELS) if labelled else SCHEMA, kind=KIND, length_column="num_tokens")


def _encode(
    chunk: Iterable[Row], ledger: Ledger, counts: dict[str, int], *, options: EncodeOptions, root: Path | None
) -> Iterator[dict[str, Any]]:
    for batch in _read(chunk, ledger, options=options, root=root):
        clips = [torch.from_numpy(audio.samples) for _, audio in batch if audio is not None]
        codes = iter(codec_on(options.codec, own_device(options.device)).encode(clips) if clips else [])
        for row, audio in batch:
            if isinstance(row, TokenRow) or audio is None:
                yield from _pass_on(row, ledger, counts)
            else:
                yield from _to_row(row, audio, codes_to_tokens(next(codes)), ledger, counts, options=options)


def _read(
    chunk: Iterable[Row], ledger: Ledger, *, options: EncodeOptions, root: Path | None
) -> Iterator[list[tuple[Row, Audio | None]]]:
    """Yield readable rows with their sound, in order, a few minutes of sound at a time."""
    limits = Limits(min_seconds=options.min_seconds, max_seconds=options.max_seconds)
    batch: list[tuple[Row, Audio | None]] = []
    samples = 0
    for row in chunk:
        ledger.begin(row)
        try:
            audio = _audio_of(row, limits, root)
        except AudioRejected as rejected:
            ledger.drop(row, rejected.reason, rejected.detail)
            continue
        batch.append((row, audio))
        samples += len(audio.samples) if audio else 0
        if samples >= TOGETHER:
            yield batch
            batch, samples = [], 0
    if batch:
        yield batch


def _audio_of(row: Row, limits: Limits, root: Path | None) -> Audio | None:
    if isinstance(row, TokenRow):
        return None
    return read_utterance(row, sample_rate=SAMPLE_RATE, root=root, limits=limits)


def check_row(row: Row, *, tokenizer: str, named: bool, limits: Limits, root: Path | None) -> Audio | None:
    """Read a row and refuse what `encode_chunk` drops, without the codec; see `tts_train.corpus.RowReader`.

    Args:
        row: A recording with its text, or token ids.
        tokenizer: What texts are read with.
        named: Whether the speaker's name may stand in the text.
        limits: On the length of the recording.
        root: Folder that the recording must not leave.

    Raises:
        RowRejected: With the reason that `encode_chunk` gives.
    """
    audio = _audio_of(row, limits, root)
    if isinstance(row, TokenRow):
        if fault := _checked(row)[1].faults[0]:
            raise RowRejected("bad_tokens", fault)
        return None
    try:
        encode_text(tokenizer_of(tokenizer), row.text, row.speaker if named else None)
    except DataError as error:
        raise RowRejected("bad_row", str(error)) from None
    return audio


def _to_row(
    row: Utterance,
    audio: Audio,
    tokens: np.ndarray[Any, np.dtype[np.int64]],
    ledger: Ledger,
    counts: dict[str, int],
    *,
    options: EncodeOptions,
) -> Iterator[dict[str, Any]]:
    kept, repeated = drop_repeated_frames(tokens) if options.dedup else (tokens, 0)
    try:
        text = encode_text(tokenizer_of(options.tokenizer), row.text, row.speaker if options.voice_prefix else None)
    except DataError as error:
        ledger.drop(row, "bad_row", str(error))
        return
    made = speech_row(text, kept)
    counts["frames"] += len(kept) // 7
    counts["frames_repeated"] += repeated
    ledger.keep(row, seconds=audio.seconds, warnings=audio.warnings)
    yield _columns(
        row.id,
        made.input_ids,
        made.prompt,
        {"text": row.text, "speaker": row.speaker, "language": row.language, "seconds": audio.seconds},
        frames=len(kept) // 7,
        origin=row.origin,
    )


def _pass_on(row: Row, ledger: Ledger, counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield a row that is tokenised already, if it is an utterance."""
    assert isinstance(row, TokenRow)
    lists, found = _checked(row)
    if found.faults[0]:
        ledger.drop(row, "bad_tokens", found.faults[0])
        return
    frames = int(found.frames[0])
    seconds = frames * FRAME_SAMPLES / SAMPLE_RATE
    counts["frames"] += frames
    ledger.keep(row, seconds=seconds)
    about = {"text": None, "speaker": None, "language": None, "seconds": seconds}
    made = _columns(row.id, lists.ids, int(found.prompts[0]), about, frames=frames, origin=row.origin)
    if lists.learnt is not None and not lists.learnt.all():
        made[LABELS.name] = np.where(lists.learnt, lists.ids, NO_LABEL).astype(np.int32)
    yield made


def _checked(row: TokenRow) -> tuple[TokenLists, Inspected]:
    """Return a row's ids without their padding, and what is wrong with them."""
    learnt = None if row.labels is None else row.labels != NO_LABEL
    count = len(row.input_ids)
    lists = without_padding(TokenLists(row.input_ids, np.array([count]), learnt, [""], count))
    return lists, inspect_rows(lists.ids, lists.sizes)


def _columns(
    row_id: str,
    ids: np.ndarray[Any, np.dtype[np.int64]],
    prompt: int,
    about: Mapping[str, Any],
    *,
    frames: int,
    origin: str,
) -> dict[str, Any]:
    lengths = {"prompt_tokens": prompt, "num_tokens": len(ids), "frames": frames}
    return {"id": row_id, "input_ids": ids.astype(np.int32), **lengths, **about, "origin": printable(origin)}


@lru_cache(maxsize=1)
def codec_on(source: str, device: str) -> Codec:
    """Return the codec, loaded once in a process."""
    return load_codec(source, device=device)


@lru_cache(maxsize=1)
def tokenizer_of(source: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer, loaded once in a process."""
    return load_tokenizer(source)
