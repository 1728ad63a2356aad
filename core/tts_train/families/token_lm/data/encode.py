"""Makes training rows of recordings with their text, or of ids; runs in the processes of ``prepare``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import torch

from tts_train.contract.encoder import Clip, RowEncoder
from tts_train.corpus import RowRejected, Utterance
from tts_train.corpus.rows.token_lists import NO_LABEL, TokenLists
from tts_train.corpus.rows.utterance import TokenRow
from tts_train.errors import DataError
from tts_train.families.token_lm.data.token_rows import Inspected, inspect_rows, without_padding
from tts_train.families.token_lm.frames.layout import FrameLayout
from tts_train.families.token_lm.model import Codec, TokenLM
from tts_train.families.token_lm.prompts import encode_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import Ids, Levels, TokenLayout
    from tts_train.families.token_lm.prompts import PromptFormat


Row: TypeAlias = Utterance | TokenRow

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        # 32 bits hold every id, in half the space of 64.
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

CODE_VERSION = 2
"""Part of every shard's address: raise it when the same input would give other rows."""


@dataclass(frozen=True, kw_only=True)
class TokenEncoder(RowEncoder):
    """Makes rows of ids, of recordings with their text or of ids."""

    length_column = "num_tokens"
    # 58 MB at 24 kHz, and enough clips of like length for full batches of the codec.
    together = 600.0
    takes_ids = True
    counted = ("frames", "frames_repeated")

    token_lm: TokenLM
    tokenizer: str
    codec: str = ""
    codec_fingerprint: str = ""
    tokenizer_fingerprint: str = ""
    dedup: bool = True
    voice_prefix: bool = True
    """Whether a speaker's name stands in the text."""
    labelled: bool = False
    """Whether rows have labels, -100 on ids that are not learnt; only sets that were tokenised elsewhere do."""

    @property
    def kind(self) -> str:
        """The model that the rows are for."""
        return self.token_lm.kind

    @property
    def prompt(self) -> PromptFormat:
        """The format that rows are written in."""
        return self.token_lm.prompt

    @property
    def schema(self) -> pa.Schema:
        """Columns of a row."""
        return SCHEMA.append(LABELS) if self.labelled else SCHEMA

    @property
    def sample_rate(self) -> int:
        """Samples a second that the codec takes."""
        return self.token_lm.layout.sample_rate

    @property
    def built_in(self) -> Sequence[str]:
        """Codecs and tokenizers that are no paths."""
        return self.token_lm.built_in

    @property
    def codec_source(self) -> str:
        """What the codec is loaded by."""
        return self.codec

    def sources(self) -> Mapping[str, str]:
        """Return the codec and the tokenizer."""
        return {"codec": self.codec, "tokenizer": self.tokenizer}

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what rows depend on besides the corpus."""
        return {
            "code_version": CODE_VERSION,
            "codec_fingerprint": self.codec_fingerprint,
            "tokenizer_fingerprint": self.tokenizer_fingerprint,
            "dedup": self.dedup,
            "voice_prefix": self.voice_prefix,
        }

    def address(self, reading: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return everything that rows depend on besides the corpus."""
        # Shards without labels keep the address that they had before there were any.
        return {**super().address(reading), **({"labelled": True} if self.labelled else {})}

    def named(self, row: Utterance) -> str | None:
        """Return the name by which a row's text names its speaker."""
        return row.speaker if self.voice_prefix else None

    def seconds_of_codes(self, row: Utterance) -> float | None:
        """Return how long a row's codes sound; None where frames have several codes of a codebook, as codes have not.

        Raises:
            RowRejected: if they are no frames of the codec.
        """
        layout, codes = self.token_lm.layout, row.codes
        if codes is None or layout.slot_levels != tuple(range(layout.slots)):
            return None
        most = layout.codes if isinstance(layout, FrameLayout) else layout.codebook_size
        if codes.shape[1] != layout.slots or int(codes.max(initial=0)) >= most:
            raise RowRejected(
                "bad_codes",
                f"frames of {codes.shape[1]} codes up to {int(codes.max(initial=0))}; those of {self.token_lm.name} "
                f"have {layout.slots}, each below {most}",
            )
        return len(codes) * layout.frame_samples / layout.sample_rate

    def check(self, clip: Clip) -> None:
        """Refuse ids that are no utterance, and texts that cannot be written in the model's ids."""
        if isinstance(clip.row, TokenRow):
            if fault := _checked(self.token_lm.layout, clip.row)[1].faults[0]:
                raise RowRejected("bad_tokens", fault)
        else:
            self._text_ids(clip.row)

    def encode(self, clips: Sequence[Clip], device: str) -> Iterator[Mapping[str, Any] | RowRejected]:
        """Yield the columns of each clip; sound goes through the codec together, as it is quicker."""
        sound = [torch.from_numpy(clip.audio.samples) for clip in clips if clip.audio is not None]
        codes = iter(codec_on(self.token_lm, self.codec_source, device).encode(sound) if sound else [])
        for clip in clips:
            # The codes are taken even where the text is refused: they belong to this clip.
            levels = _brought(clip.row) if clip.audio is None else next(codes)
            try:
                yield self._passed_on(clip.row) if levels is None else self._spoken(clip.row, levels)
            except RowRejected as rejected:
                yield rejected

    def facts(self, counts: Mapping[str, int]) -> Mapping[str, Any]:
        """Count frames, and those that repeat the one before."""
        frames, repeated = counts["frames"], counts["frames_repeated"]
        share = round(repeated / (frames + repeated), 4) if frames else 0.0
        return {"frames": frames, "frames_repeated": repeated, "frames_repeated_share": share}

    def _text_ids(self, row: Utterance) -> list[int]:
        tokenizer = tokenizer_of(self.token_lm, self.tokenizer)
        try:
            asked: dict[str, str | None] = {"language": row.language, "instruct": row.instruct}
            return encode_line(self.prompt, tokenizer, row.text, self.named(row), **asked)
        except DataError as error:
            # The reason says all of it; a chain of tracebacks would only be thrown away.
            raise RowRejected("bad_row", str(error)) from None

    def _spoken(self, row: Row, levels: Levels) -> Mapping[str, Any]:
        assert isinstance(row, Utterance)
        layout = self.token_lm.layout
        ids = layout.codes_to_tokens(levels)
        kept, repeated = layout.drop_repeated_frames(ids) if self.dedup else (ids, 0)
        made = self.prompt.speech_row(self._text_ids(row), kept)
        columns = _columns(layout, made.input_ids, made.prompt, frames=len(kept) // layout.slots)
        return {**columns, "frames_repeated": repeated}

    def _passed_on(self, row: Row) -> Mapping[str, Any]:
        """Return a row that is tokenised already, if it is an utterance."""
        assert isinstance(row, TokenRow)
        layout = self.token_lm.layout
        lists, found = _checked(layout, row)
        if found.faults[0]:
            raise RowRejected("bad_tokens", found.faults[0])
        frames = int(found.frames[0])
        made = _columns(layout, lists.ids, int(found.prompts[0]), frames=frames)
        if lists.learnt is not None and not lists.learnt.all():
            made[LABELS.name] = np.where(lists.learnt, lists.ids, NO_LABEL).astype(np.int32)
        return {**made, "frames_repeated": 0, "seconds": frames * layout.frame_samples / layout.sample_rate}


def _brought(row: Row) -> Levels | None:
    """Return the codes that a row brings along, by codebook."""
    return None if isinstance(row, TokenRow) or row.codes is None else tuple(row.codes.T)


def _checked(layout: TokenLayout, row: TokenRow) -> tuple[TokenLists, Inspected]:
    """Return a row's ids without their padding, and what is wrong with them."""
    learnt = None if row.labels is None else row.labels != NO_LABEL
    count = len(row.input_ids)
    # The same reading as that of fit, so that both leave out the same ids.
    lists = without_padding(TokenLists(row.input_ids, np.array([count]), learnt, [""], count), layout)
    return lists, inspect_rows(lists.ids, lists.sizes, layout)


def _columns(layout: TokenLayout, ids: Ids, prompt: int, *, frames: int) -> dict[str, Any]:
    positions = len(layout.starts(ids))
    made = {"input_ids": ids.astype(np.int32), "prompt_tokens": prompt, "num_tokens": positions, "frames": frames}
    # Null where all ids are learnt: sets without labels stay as small as they were.
    return {**made, LABELS.name: None}


@lru_cache(maxsize=1)
def codec_on(token_lm: TokenLM, source: str, device: str) -> Codec:
    """Return the codec, loaded once in a process."""
    # One of each in a process: loading takes seconds, and a second would not fit beside the first on a small card.
    return token_lm.load_codec(source, device=device)


@lru_cache(maxsize=1)
def tokenizer_of(token_lm: TokenLM, source: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer, loaded once in a process."""
    return token_lm.load_tokenizer(source)
