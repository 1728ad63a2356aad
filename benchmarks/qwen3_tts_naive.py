"""The way in which Qwen3-TTS is fine-tuned by its own script, stated again plainly and with the right loss.

Rows are padded; a text row and a row of the codec's table are looked up at every position and left out by masks; both
networks give all logits before a loss is taken; every weight is trained, the text table too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tts_train.families.token_lm.data.batch import Document
from tts_train_qwen3_tts.layout import PAD, Qwen3TTSLayout

DEPTH_SHARE = 0.3


class PaddedRows:
    """Rows of ids as two channels with a mask each, padded on the right to the longest."""

    def __init__(self, rows: Sequence[Document], layout: Qwen3TTSLayout) -> None:
        lengths = [len(layout.starts(row.input_ids)) for row in rows]
        shape = len(rows), max(lengths)
        self.text, self.items = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        self.codes = torch.zeros(*shape, layout.slots, dtype=torch.long)
        self.has_item, self.has_frame = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        self.voice = torch.zeros(shape, dtype=torch.bool)
        self.attended = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
        self.labels = torch.full(shape, -100)
        for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            self._fill(place, row, length, layout)

    def _fill(self, place: int, row: Document, length: int, layout: Qwen3TTSLayout) -> None:
        framed, codes = (torch.from_numpy(each) for each in layout.frames_in(row.input_ids))
        first = torch.from_numpy(row.input_ids[layout.starts(row.input_ids)])
        spoken = (first >= layout.spoken_base) & (first < layout.rows_base)
        plain = first < layout.spoken_base
        words = torch.where(plain, first, torch.where(spoken, first - layout.spoken_base, layout.tts_pad))
        self.text[place, :length] = words
        self.voice[place, :length] = (first >= layout.voice_base) & (first < layout.audio_base)
        self.has_frame[place, :length] = framed
        self.has_item[place, :length] = ~plain
        items = torch.where(spoken, layout.row(PAD), (first - layout.rows_base).clamp(0, layout.output_rows - 1))
        items[framed] = codes[:, 0]
        self.items[place, :length] = items
        self.codes[place, :length][framed] = codes
        self.labels[place, :length][framed] = codes[:, 0]
        self.labels[place, length - 1] = layout.end_code


def naive_loss(lm: Any, rows: PaddedRows) -> Tensor:
    """Return the mean over first codes and 0.3 of that over all others; ``lm`` attends by ``sdpa``."""
    talker, predictor = lm.talker, lm.talker.code_predictor
    words = talker.text_projection(talker.model.text_embedding(rows.text)) * rows.attended[..., None]
    items = talker.model.codec_embedding(rows.items) * rows.has_item[..., None]
    items = torch.where(rows.voice[..., None], lm.voices[0], items)
    states = words + items
    for book, embed in enumerate(predictor.model.codec_embedding, start=1):
        states = states + embed(rows.codes[..., book]) * rows.has_frame[..., None]
    hidden = _stack(talker.model, states, rows.attended)
    logits = talker.codec_head(hidden)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), rows.labels[:, 1:].flatten(), ignore_index=-100)
    before = hidden[:, :-1][rows.has_frame[:, 1:]]
    return loss + DEPTH_SHARE * _depth_loss(lm, before, rows.codes[rows.has_frame])


def _depth_loss(lm: Any, before: Tensor, codes: Tensor) -> Tensor:
    predictor = lm.talker.code_predictor
    tables = [lm.talker.model.codec_embedding, *predictor.model.codec_embedding]
    read = [table(codes[:, book]) for book, table in enumerate(tables[:-1])]
    states = predictor.small_to_mtp_projection(torch.stack([before, *read], dim=1))
    hidden = _stack(predictor.model, states, None)
    logits = torch.stack([head(hidden[:, book]) for book, head in enumerate(predictor.lm_head, start=1)], dim=1)
    return F.cross_entropy(logits.flatten(0, 1).float(), codes[:, 1:].flatten())


def _stack(model: Any, states: Tensor, attended: Tensor | None) -> Tensor:
    length = states.shape[1]
    places = torch.arange(length)[None]
    mask = None
    if attended is not None and not attended.all():
        mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None] & attended[:, None, None]
    turned = model.rotary_emb(states, position_ids=places)
    for layer in model.layers:
        states = layer(states, attention_mask=mask, position_ids=places, position_embeddings=turned)
    normed: Tensor = model.norm(states)
    return normed
