"""From a chunk of utterances to a shard of rows for every stage; runs in the processes of ``prepare``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from tts_train.contract import Done, own_device
from tts_train.corpus import (
    Audio,
    AudioRejected,
    Ledger,
    Limits,
    RowRejected,
    TokenRow,
    Utterance,
    read_utterance,
)
from tts_train.datasets import ShardStore, input_key, input_of, printable
from tts_train_gpt_sovits.features.bert import BertFeatures
from tts_train_gpt_sovits.features.hubert import HubertFeatures, clip_fault
from tts_train_gpt_sovits.features.semantic import SemanticTokens
from tts_train_gpt_sovits.features.speaker import SpeakerVectors
from tts_train_gpt_sovits.preparing.chunk import KIND, GptSovitsEncodeOptions, Sources
from tts_train_gpt_sovits.signal.audio import training_wave
from tts_train_gpt_sovits.text import FrontEnd, SpokenText, TextRejected

SAMPLE_RATE = 32_000

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("text", pa.string()),
        pa.field("norm_text", pa.string()),
        pa.field("speaker", pa.string()),
        pa.field("language", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("phonemes", pa.list_(pa.int32())),
        pa.field("word2ph", pa.list_(pa.int32())),
        pa.field("codes", pa.list_(pa.int32())),
        pa.field("num_codes", pa.int32()),
        pa.field("bert", pa.list_(pa.float16())),
        pa.field("wave", pa.list_(pa.int16())),
        pa.field("speaker_vector", pa.list_(pa.float32())),
        pa.field("ssl", pa.list_(pa.float16())),
        pa.field("origin", pa.string()),
    ]
)

MAX_CHARACTERS = 510
"""Of one stretch of Chinese: what its network has positions for."""

TOGETHER = SAMPLE_RATE * 300
"""Samples that are read before their features are computed: 38 MB, and enough clips of like length for batches."""


@dataclass(frozen=True)
class Heard:
    """An utterance whose text is phonemes and whose recording is read."""

    row: Utterance
    said: SpokenText
    language: str
    wave: Tensor
    """float32 (samples,) at 32 kHz."""
    mixed: Tensor
    """int16 (samples,): what is trained on."""
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Networks:
    """The networks of preparation on one device."""

    hubert: HubertFeatures
    semantic: SemanticTokens
    bert: BertFeatures | None
    speaker: SpeakerVectors | None


def encode_chunk(
    chunk: Sequence[Utterance | TokenRow], *, options: GptSovitsEncodeOptions, out: Path, root: Path | None
) -> Done:
    """Return the shard of a chunk: the one that is there, if it was made from the same input, or a new one."""
    store = open_store(out)
    key = input_key(options.address(), (part for row in chunk for part in input_of(row)))
    if shard := store.find(key):
        return Done(shard, reused=True, rows=len(chunk))
    ledger = Ledger()
    rows = [made for batch in _read(chunk, ledger, options, root) for made in _to_rows(batch, ledger, options)]
    return Done(store.write(key, rows, account={"ledger": ledger.state()}), reused=False, rows=len(chunk))


def open_store(out: Path) -> ShardStore:
    """Return the shards of a prepared folder."""
    return ShardStore(out, SCHEMA, kind=KIND, length_column="num_codes")


def _read(
    chunk: Iterable[Utterance | TokenRow], ledger: Ledger, options: GptSovitsEncodeOptions, root: Path | None
) -> Iterator[list[Heard]]:
    """Yield utterances that can be used, in order, a few minutes of sound at a time."""
    limits = Limits(min_seconds=options.min_seconds, max_seconds=options.max_seconds)
    batch: list[Heard] = []
    for row in chunk:
        ledger.begin(row)
        try:
            batch.append(_hear(row, limits, options, root))
        except (AudioRejected, TextRejected) as rejected:
            ledger.drop(row, rejected.reason, rejected.detail)
        if sum(len(heard.wave) for heard in batch) >= TOGETHER:
            yield batch
            batch = []
    if batch:
        yield batch


def check_row(
    row: Utterance | TokenRow, *, version: str, language: str | None, limits: Limits, root: Path | None
) -> Audio:
    """Read a row and refuse what `encode_chunk` drops, without its networks; see `tts_train.corpus.RowReader`.

    Raises:
        RowRejected: With the reason that `encode_chunk` gives.
    """
    try:
        return _read_row(row, version, language, limits, root)[1]
    except TextRejected as rejected:
        raise RowRejected(rejected.reason, rejected.detail) from None


def _hear(row: Utterance | TokenRow, limits: Limits, options: GptSovitsEncodeOptions, root: Path | None) -> Heard:
    said, audio = _read_row(row, options.version, options.language, limits, root)
    assert isinstance(row, Utterance)
    wave = torch.from_numpy(audio.samples)
    return Heard(row, said, said.language, wave, training_wave(wave), audio.seconds, audio.warnings)


def _read_row(
    row: Utterance | TokenRow, version: str, language: str | None, limits: Limits, root: Path | None
) -> tuple[SpokenText, Audio]:
    if isinstance(row, TokenRow):
        raise TextRejected("bad_row", "it holds token ids, and this backend needs a recording and its text")
    # The text is the cheaper of the two, and as likely to be refused.
    said = front_end(version, language).speak(row.text, row.language)
    if any(_has_features(part) and len(part.norm_text) > MAX_CHARACTERS for part in said.parts):
        raise AudioRejected("text_too_long", f"more than {MAX_CHARACTERS} characters in one stretch of Chinese")
    audio = read_utterance(row, sample_rate=SAMPLE_RATE, root=root, limits=limits)
    if fault := clip_fault(torch.from_numpy(audio.samples)):
        raise AudioRejected(fault)
    return said, audio


def _to_rows(batch: Sequence[Heard], ledger: Ledger, options: GptSovitsEncodeOptions) -> Iterator[dict[str, Any]]:
    device = own_device(options.device)
    networks = networks_on(options.sources, device, options.bert is not None, options.speaker is not None)
    features = networks.hubert.encode([heard.wave for heard in batch])
    codes = networks.semantic.encode(features)
    texts = text_features([heard.said for heard in batch], networks.bert)
    voices: Sequence[Tensor | None] = [None] * len(batch)
    if networks.speaker is not None:
        voices = networks.speaker.encode([heard.mixed for heard in batch])
    for heard, ssl, tokens, bert, voice in zip(batch, features, codes, texts, voices, strict=True):
        ledger.keep(heard.row, seconds=heard.seconds, language=heard.language, warnings=heard.warnings)
        yield _columns(heard, tokens, bert, voice, ssl if options.keep_ssl else None)


def text_features(said: Sequence[SpokenText], bert: BertFeatures | None) -> list[Tensor | None]:
    """Return features (phonemes, 1024) of each text, zero outside its Chinese parts, or None where it has none."""
    parts = [(part.norm_text, part.word2ph or ()) for each in said for part in each.parts if _has_features(part)]
    found = iter(bert.encode(parts)) if bert is not None and parts else iter(())
    return [_join(each, found) if bert and any(map(_has_features, each.parts)) else None for each in said]


def _has_features(part: Any) -> bool:  # noqa: ANN401 - a part of a text
    return part.language == "zh" and bool(part.phones)


def _join(said: SpokenText, found: Iterator[Tensor]) -> Tensor:
    return torch.cat(
        [next(found) if _has_features(part) else torch.zeros(len(part.phones), 1024) for part in said.parts]
    )


def _columns(
    heard: Heard, codes: Tensor, bert: Tensor | None, voice: Tensor | None, ssl: Tensor | None
) -> dict[str, Any]:
    row, said = heard.row, heard.said
    return {
        "id": row.id,
        "text": row.text,
        "norm_text": said.norm_text,
        "speaker": row.speaker,
        "language": heard.language,
        "seconds": heard.seconds,
        "phonemes": list(said.ids),
        "word2ph": None if said.word2ph is None else list(said.word2ph),
        "codes": codes.cpu().numpy().astype(np.int32),
        "num_codes": len(codes),
        "bert": None if bert is None else bert.cpu().half().flatten().numpy(),
        "wave": heard.mixed.numpy(),
        "speaker_vector": None if voice is None else voice.cpu().float().flatten().numpy(),
        "ssl": None if ssl is None else ssl.cpu().half().flatten().numpy(),
        "origin": printable(row.origin),
    }


@lru_cache(maxsize=1)
def networks_on(sources: Sources, device: str, bert: bool, speaker: bool) -> Networks:
    """Return the networks, loaded once in a process; the last two only where they are needed."""
    where = torch.device(device)
    return Networks(
        hubert=HubertFeatures.load(sources.hubert, where),
        semantic=SemanticTokens.load(sources.sovits, where),
        bert=BertFeatures.load(sources.bert, where) if bert else None,
        speaker=SpeakerVectors.load(sources.speaker, where) if speaker else None,
    )


@lru_cache(maxsize=1)
def front_end(version: str, language: str | None = None) -> FrontEnd:
    """Return the text front end, made once in a process; ``language`` is that of texts that name none."""
    return FrontEnd(version, default_language=language)
