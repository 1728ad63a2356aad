"""Prompts of the reference figures: ours, from words to ids, and upstream's with the text along the frames."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.qwen3_tts.reference import Reference
from tts_train.families.token_lm.data.batch import Document
from tts_train.families.token_lm.frames.batch import pad_frames
from tts_train.families.token_lm.frames.network import embed
from tts_train_qwen3_tts.layout import PAD, Qwen3TTSLayout
from tts_train_qwen3_tts.networks.talker import NONE, Qwen3TTSLM
from tts_train_qwen3_tts.prompt import Qwen3TTSPrompt

_FIRST_LETTER = 0x4E00


def letters(rows: Sequence[int]) -> str:
    """Return a text that :class:`LetterTokenizer` reads as these rows."""
    return "".join(chr(_FIRST_LETTER + row) for row in rows)


class LetterTokenizer:
    """Reads a letter as a row, and the marks around a text as those of the reduced networks."""

    def __init__(self, config: Any) -> None:
        start, assistant = config.im_start_token_id, config.assistant_token_id
        self._marks = {
            "<|im_start|>": start,
            "<|im_end|>": config.im_end_token_id,
            "assistant": assistant,
            "\n": assistant + 1,
            "user": assistant + 2,
        }
        self._pattern = re.compile("|".join([*map(re.escape, self._marks), "."]))

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [self._marks.get(part, ord(part[0]) - _FIRST_LETTER) for part in self._pattern.findall(text)]


def prompts(
    reference: Reference, case: str, items: Sequence[Mapping[str, Any]], model_type: str
) -> list[np.ndarray[Any, Any]]:
    """Return the ids of a case's prompts, and give the reference's network the vectors that they name.

    Args:
        reference: The network.
        case: Name that the case's words and vectors are drawn by.
        items: What each prompt is of.
        model_type: ``base`` names voices by vectors, ``custom_voice`` by rows of the codec's table, ``voice_design``
            not at all.
    """
    talker = reference.config.talker
    vectors = [f"speaker.{case}.{i}" for i in range(len(items))] if model_type == "base" else []
    reference.give_voices(vectors)
    layout = reference.layout
    rows = talker["spk_id"] if model_type == "custom_voice" else {}
    speakers = {name: layout.item(row) for name, row in rows.items()}
    speakers |= {name: layout.voice_base + i for i, name in enumerate(vectors)}
    dialects = {name: dialect for name, dialect in talker["spk_is_dialect"].items() if dialect}
    form = Qwen3TTSPrompt(layout, talker["codec_language_id"], speakers, dialects)
    return [_prompt(reference, form, case, i, item, vectors) for i, item in enumerate(items)]


def _prompt(
    reference: Reference, form: Qwen3TTSPrompt, case: str, i: int, item: Mapping[str, Any], vectors: Sequence[str]
) -> np.ndarray[Any, Any]:
    tokenizer: Any = LetterTokenizer(reference.config)
    speaker = vectors[i] if vectors else item["speaker"]
    instruct = letters(reference.words(f"instruct.{case}.{i}", item["instruct"]))
    given = {"language": item["language"], "instruct": instruct}
    said = form.encode_line(tokenizer, letters(reference.words(f"text.{case}.{i}", item["L"])), speaker, **given)
    if not isinstance(item["reference"], list):
        return form.inference_prompt(said)
    words, frames = item["reference"]
    heard = form.encode_line(tokenizer, letters(reference.words(f"ref.{case}.{i}", words)), speaker)
    audio = reference.audio(reference.codes(f"refcodes.{case}.{i}", frames))
    return form.zero_shot_prompt([(heard, audio)], said)


@dataclass(frozen=True)
class Rows:
    """A prompt as upstream has it: two channels for each position, and the text that goes on along the frames."""

    text: list[int]
    """Text rows, -1 for none."""
    codec: list[int]
    """Rows of the codec's table, from its end on vectors; -1 for none, -2 for a frame."""
    codes: Tensor
    """(F, K) of the frames."""
    trailing: list[int]
    """Text rows under the frames to come; where they are used up, the pad."""

    def plain(self, layout: Qwen3TTSLayout) -> list[list[Any]]:
        """Return the positions as the reference files write them."""
        frames = iter(range(len(self.codes)))

        def said(row: int) -> Any:
            if row == FRAME:
                return ["frame", next(frames)]
            return None if row == NONE else "speaker" if row >= layout.output_rows else row

        pairs = zip(self.text, self.codec, strict=True)
        return [[None if text == NONE else text, said(row)] for text, row in pairs]

    def embedded(self, lm: Qwen3TTSLM) -> Tensor:
        """Return the embeddings (T, H)."""
        text, codec = torch.tensor(self.text), torch.tensor(self.codec)
        made = lm.embed_pairs(text, torch.where(codec == FRAME, NONE, codec))
        places = (codec == FRAME).nonzero()[:, 0]
        return made.index_add(0, places, lm.sum_of_codes(self.codes)) if len(places) else made


FRAME = -2


def full_text(layout: Qwen3TTSLayout, ids: np.ndarray[Any, Any]) -> Rows:
    """Read a prompt's ids."""
    framed, codes = layout.frames_in(ids)
    text, codec = [], []
    for index, frame in zip(ids[layout.starts(ids)].tolist(), framed.tolist(), strict=True):
        if index < layout.rows_base:
            spoken = index >= layout.spoken_base
            text.append(index - spoken * layout.spoken_base)
            codec.append(layout.row(PAD) if spoken else NONE)
        else:
            text.append(layout.tts_pad)
            codec.append(FRAME if frame else index - layout.rows_base)
    return Rows(text, codec, torch.from_numpy(codes), [layout.tts_pad])


def streaming(layout: Qwen3TTSLayout, ids: np.ndarray[Any, Any]) -> Rows:
    """Return upstream's other layout of the same prompt: from where sound begins, the text along what is said."""
    whole = full_text(layout, ids)
    begins, ends = whole.text.index(layout.tts_bos) + 1, whole.text.index(layout.tts_eos) + 1
    text, codec = whole.text[begins:ends], whole.codec[ends:]
    beside = (text + [layout.tts_pad] * len(codec))[: len(codec)]
    rest = text[len(codec) :] or [layout.tts_pad]
    return Rows(whole.text[:begins] + beside, whole.codec[:begins] + codec, whole.codes, rest)


def embedded(lm: Qwen3TTSLM, layout: Qwen3TTSLayout, ids: np.ndarray[Any, Any]) -> Tensor:
    """Return the embeddings (T, H) of a prompt's ids, as generation computes them."""
    batch = pad_frames([Document("", ids)], layout)
    return embed(lm, batch["input_ids"], batch["frame_places"], batch["codes"])[0]


LAYOUTS = {"full_text": full_text, "streaming": streaming}
