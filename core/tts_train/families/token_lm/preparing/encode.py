"""From a chunk of utterances to a shard of training rows; runs in the processes of ``prepare``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from tts_train.contract.prepare import Done
from tts_train.corpus import Audio, AudioRejected, Ledger, Limits, RowRejected, TokenRow, Utterance, read_utterance
from tts_train.corpus.rows.token_lists import NO_LABEL, TokenLists
from tts_train.datasets.store.inputs import input_of, printable
from tts_train.datasets.store.shard_store import ShardStore, input_key
from tts_train.errors import DataError
from tts_train.families.token_lm.codec import Codec
from tts_train.families.token_lm.data.token_rows import Inspected, inspect_rows, without_padding
from tts_train.families.token_lm.model import TokenLM
from tts_train.families.token_lm.preparing.chunk import Row, TokenEncodeOptions
from tts_train.parallel.devices import own_device

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import Ids, TokenLayout

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

TOGETHER = 600
"""Seconds that are read before they are encoded: 58 MB at 24 kHz, and enough clips of like length for full batches."""


def encode_chunk(
    chunk: Sequence[Row], *, token_lm: TokenLM, options: TokenEncodeOptions, out: Path, root: Path | None
) -> Done:
    """Return the shard of a chunk: the one that is there, if it was made from the same input, or a new one."""
    store = open_store(token_lm, out, labelled=options.labelled)
    key = input_key(options.address(), (part for row in chunk for part in input_of(row)))
    if shard := store.find(key):
        return Done(shard, reused=True, rows=len(chunk))
    ledger, counts = Ledger(), {"frames": 0, "frames_repeated": 0}
    rows = list(_Encoder(token_lm, options, ledger, counts).encode(chunk, root))
    shard = store.write(key, rows, account={"ledger": ledger.state(), **counts})
    return Done(shard, reused=False, rows=len(chunk))


def open_store(token_lm: TokenLM, out: Path, *, labelled: bool = False) -> ShardStore:
    """Return the shards of a prepared folder, with a column for labels or without."""
    return ShardStore(
        out, SCHEMA.append(LABELS) if labelled else SCHEMA, kind=token_lm.kind, length_column="num_tokens"
    )


@dataclass(frozen=True)
class _Encoder:
    """Makes rows of one chunk, and notes in ``ledger`` and ``counts`` what became of each."""

    token_lm: TokenLM
    options: TokenEncodeOptions
    ledger: Ledger
    counts: dict[str, int]

    def encode(self, chunk: Iterable[Row], root: Path | None) -> Iterator[dict[str, Any]]:
        """Yield the rows of a chunk that are kept."""
        layout, source = self.token_lm.layout, self.options.codec
        for batch in self._read(chunk, root):
            clips = [torch.from_numpy(audio.samples) for _, audio in batch if audio is not None]
            device = own_device(self.options.device)
            codes = iter(codec_on(self.token_lm, source, device).encode(clips) if clips else [])
            for row, audio in batch:
                if isinstance(row, TokenRow) or audio is None:
                    yield from self._pass_on(row)
                else:
                    yield from self._to_row(row, audio, layout.codes_to_tokens(next(codes)))

    def _read(self, chunk: Iterable[Row], root: Path | None) -> Iterator[list[tuple[Row, Audio | None]]]:
        """Yield readable rows with their sound, in order, a few minutes of sound at a time."""
        limits = Limits(min_seconds=self.options.min_seconds, max_seconds=self.options.max_seconds)
        batch: list[tuple[Row, Audio | None]] = []
        samples, most = 0, TOGETHER * self.token_lm.layout.sample_rate
        for row in chunk:
            self.ledger.begin(row)
            try:
                audio = _audio_of(self.token_lm, row, limits, root)
            except AudioRejected as rejected:
                self.ledger.drop(row, rejected.reason, rejected.detail)
                continue
            batch.append((row, audio))
            samples += len(audio.samples) if audio else 0
            if samples >= most:
                yield batch
                batch, samples = [], 0
        if batch:
            yield batch

    def _to_row(self, row: Utterance, audio: Audio, tokens: Ids) -> Iterator[dict[str, Any]]:
        token_lm, options = self.token_lm, self.options
        kept, repeated = token_lm.layout.drop_repeated_frames(tokens) if options.dedup else (tokens, 0)
        try:
            speaker = row.speaker if options.voice_prefix else None
            text = token_lm.prompt.encode_text(tokenizer_of(token_lm, options.tokenizer), row.text, speaker)
        except DataError as error:
            self.ledger.drop(row, "bad_row", str(error))
            return
        made, frames = token_lm.prompt.speech_row(text, kept), len(kept) // token_lm.layout.slots
        self.counts["frames"] += frames
        self.counts["frames_repeated"] += repeated
        self.ledger.keep(row, seconds=audio.seconds, warnings=audio.warnings)
        about = {"text": row.text, "speaker": row.speaker, "language": row.language, "seconds": audio.seconds}
        positions = len(token_lm.layout.starts(made.input_ids))
        yield _columns(row.id, made.input_ids, made.prompt, about, positions, frames=frames, origin=row.origin)

    def _pass_on(self, row: Row) -> Iterator[dict[str, Any]]:
        """Yield a row that is tokenised already, if it is an utterance."""
        assert isinstance(row, TokenRow)
        layout = self.token_lm.layout
        lists, found = _checked(layout, row)
        if found.faults[0]:
            self.ledger.drop(row, "bad_tokens", found.faults[0])
            return
        frames = int(found.frames[0])
        seconds = frames * layout.frame_samples / layout.sample_rate
        self.counts["frames"] += frames
        self.ledger.keep(row, seconds=seconds)
        about = {"text": None, "speaker": None, "language": None, "seconds": seconds}
        positions = len(layout.starts(lists.ids))
        made = _columns(row.id, lists.ids, int(found.prompts[0]), about, positions, frames=frames, origin=row.origin)
        if lists.learnt is not None and not lists.learnt.all():
            made[LABELS.name] = np.where(lists.learnt, lists.ids, NO_LABEL).astype(np.int32)
        yield made


def _audio_of(token_lm: TokenLM, row: Row, limits: Limits, root: Path | None) -> Audio | None:
    if isinstance(row, TokenRow):
        return None
    return read_utterance(row, sample_rate=token_lm.layout.sample_rate, root=root, limits=limits)


def check_row(
    row: Row, *, token_lm: TokenLM, tokenizer: str, named: bool, limits: Limits, root: Path | None
) -> Audio | None:
    """Read a row and refuse what `encode_chunk` drops, without the codec; see `tts_train.corpus.RowReader`.

    Args:
        row: A recording with its text, or token ids.
        token_lm: Of the model that it is for.
        tokenizer: What texts are read with.
        named: Whether the speaker's name may stand in the text.
        limits: On the length of the recording.
        root: Folder that the recording must not leave.

    Raises:
        RowRejected: With the reason that `encode_chunk` gives.
    """
    audio = _audio_of(token_lm, row, limits, root)
    if isinstance(row, TokenRow):
        if fault := _checked(token_lm.layout, row)[1].faults[0]:
            raise RowRejected("bad_tokens", fault)
        return None
    try:
        token_lm.prompt.encode_text(tokenizer_of(token_lm, tokenizer), row.text, row.speaker if named else None)
    except DataError as error:
        raise RowRejected("bad_row", str(error)) from None
    return audio


def _checked(layout: TokenLayout, row: TokenRow) -> tuple[TokenLists, Inspected]:
    """Return a row's ids without their padding, and what is wrong with them."""
    learnt = None if row.labels is None else row.labels != NO_LABEL
    count = len(row.input_ids)
    lists = without_padding(TokenLists(row.input_ids, np.array([count]), learnt, [""], count), layout)
    return lists, inspect_rows(lists.ids, lists.sizes, layout)


def _columns(
    row_id: str,
    ids: Ids,
    prompt: int,
    about: Mapping[str, Any],
    positions: int,
    *,
    frames: int,
    origin: str,
) -> dict[str, Any]:
    lengths = {"prompt_tokens": prompt, "num_tokens": positions, "frames": frames}
    return {"id": row_id, "input_ids": ids.astype(np.int32), **lengths, **about, "origin": printable(origin)}


@lru_cache(maxsize=1)
def codec_on(token_lm: TokenLM, source: str, device: str) -> Codec:
    """Return the codec, loaded once in a process."""
    return token_lm.load_codec(source, device=device)


@lru_cache(maxsize=1)
def tokenizer_of(token_lm: TokenLM, source: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer, loaded once in a process."""
    return token_lm.load_tokenizer(source)
