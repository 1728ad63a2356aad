"""Recompute the figures of rows and prompts: what stands at each position, and its embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tests.qwen3_tts.layouts import LAYOUTS, embedded, full_text, prompts
from tests.qwen3_tts.reference import DESCRIPTIVE, KINDS, Reference, compared
from tts_train.families.token_lm.frames.batch import pad_frames

_SAID = DESCRIPTIVE | {"layout_item"}
_CASE = {"model_type", "items", "lens_text_frames"}
_DRAWN = {"do_sample": True, "top_k": 50, "top_p": 1.0, "temperature": 0.9}
_GENERATED = {
    **_DRAWN,
    **{f"subtalker_{name.replace('do_sample', 'dosample')}": value for name, value in _DRAWN.items()},
    "repetition_penalty": 1.05,
    "max_new_tokens": 4096,
    "output_hidden_states": True,
    "return_dict_in_generate": True,
}
"""What upstream generates by where a model's folder says nothing."""


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of a file of layouts."""
    reference = Reference(data, data["config"], "float64")
    for field, cases in data.items():
        if field == "training_upstream_collate":
            for case, expected in cases.items():
                if case != "text_rule":
                    yield from _compared(f"training.{case}", expected, _training(reference, case, expected))
        elif field == "inference":
            for name, expected in cases.items():
                yield from _compared(name, expected, _inference(reference, name, expected))
        elif field not in _SAID:
            yield unknown(field, cases)


def _compared(where: str, expected: dict[str, Any], got: dict[str, Any]) -> Iterator[Figure]:
    wanted = {name: value for name, value in expected.items() if name not in _CASE}
    return compared(where, wanted, got, KINDS["float64"])


def _training(reference: Reference, case: str, expected: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of upstream's batch, which is padded with 0 and has labels at the frames themselves."""
    layout = reference.layout
    documents = reference.rows(expected["lens_text_frames"], case)
    batch = pad_frames(documents, layout)
    width, sizes = batch["input_ids"].shape[1], batch["lengths"]
    read = [full_text(layout, document.input_ids) for document in documents]
    # Neither the speaker's vector nor a frame is a row of the codec's table.
    plain = [[item if isinstance(item, int) else 0 for _, item in rows.plain(layout)] for rows in read]
    framed = torch.zeros(batch["input_ids"].numel(), dtype=torch.long)
    framed[batch["frame_places"]] = batch["codes"][:, 0]
    # Our targets stand a position before what they name.
    labels = [[-100, *row[:-1]] for row in batch["targets"].tolist()]
    places = [[i for i, code in enumerate(rows.codec) if code == -2] for rows in read]
    return {
        "text_ids": [_words(layout, rows.text) for rows in read],
        "text_channel": _filled([rows.text for rows in read], width),
        "codec_channel": (torch.tensor(_filled(plain, width)) + framed.view(len(read), -1)).tolist(),
        "labels": labels,
        "attention_mask_sum": sizes,
        "text_mask_sum": [len(rows.text) for rows in read],
        "codec_embedding_false": [
            [i for i, row in enumerate(rows.codec) if row == -1 or row >= layout.output_rows] for rows in read
        ],
        "codec_mask_range": [[where[0], where[-1]] for where in places],
        "codec_ids_first_frame": [rows.codes[0].tolist() for rows in read],
    }


def _words(layout: Any, text: list[int]) -> list[int]:
    """Return the role and what is read out."""
    begins, ends = text.index(layout.tts_bos) + 1, text.index(layout.tts_eos)
    return [row for row in text[:begins] if row not in (layout.tts_pad, layout.tts_bos)] + text[begins:ends]


def _filled(rows: list[list[int]], width: int) -> list[list[int]]:
    return [row + [0] * (width - len(row)) for row in rows]


@torch.no_grad()
def _inference(reference: Reference, name: str, expected: dict[str, Any]) -> dict[str, Any]:
    case, _, which = name.rpartition(".")
    ids = prompts(reference, case, expected["items"], expected["model_type"])
    layout, lm = reference.layout, reference.lm
    rows = [LAYOUTS[which](layout, each) for each in ids]
    if which == "full_text":
        embeds = [embedded(lm, layout, each) for each in ids]
    else:
        embeds = [each.embedded(lm) for each in rows]
    sizes = [len(each) for each in embeds]
    padded = torch.zeros(len(embeds), max(sizes), embeds[0].shape[1], dtype=embeds[0].dtype)
    for row, each in zip(padded, embeds, strict=True):
        row[-len(each) :] = each
    trailing = _trailing(reference, [each.trailing for each in rows])
    return {
        "rows": [each.plain(layout) for each in rows],
        "trailing_text": [each.trailing for each in rows],
        "padded_shape": list(padded.shape),
        "padded_embeds": padded,
        "attention_mask_sum": sizes,
        "trailing": trailing,
        "trailing_shape": list(trailing.shape),
        "kwargs": _arguments(layout),
    }


def _trailing(reference: Reference, texts: list[list[int]]) -> Tensor:
    pad, longest = reference.layout.tts_pad, max(map(len, texts))
    rows = torch.tensor([text + [pad] * (longest - len(text)) for text in texts])
    return reference.lm.embed_pairs(rows, torch.full_like(rows, -1))


def _arguments(layout: Any) -> dict[str, Any]:
    """Return upstream's arguments for generation: the rows that cannot begin a frame are those that we do not draw."""
    left_out = [row for row in range(layout.codes, layout.output_rows) if row != layout.end_code]
    return {
        **_GENERATED,
        "min_new_tokens": layout.least_frames,
        "eos_token_id": layout.end_code,
        "suppress_tokens": [left_out[0], left_out[-1], len(left_out)],
    }
