"""Takes of models of the family, made without a model: whole frames and an end, or what is wrong with a take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.core.datasets.takes import take, write_takes
from tts_train.datasets.store.shard_store import ShardStore
from tts_train.families.token_lm.data.encode import SCHEMA
from tts_train.families.token_lm.model import TokenLM

COLUMNS = {"prompt_ids": "list<int32>", "drawn_ids": "list<int32>"}


def prompt(token_lm: TokenLM, number: int) -> list[int]:
    """Return the prompt of a text that has some letters of its own."""
    layout = token_lm.layout
    text = [layout.begin_of_text, *(65 + (number + place) % 26 for place in range(3 + number % 5))]
    ids: list[int] = token_lm.prompt.inference_prompt(np.array(text)).tolist()
    return ids


def drawn(token_lm: TokenLM, frames: int, start: int = 0, *, ended: bool = True) -> list[int]:
    """Return whole frames of codes that count up from ``start``, and the end of speech."""
    layout = token_lm.layout
    codes = (np.arange(frames * layout.slots) + start) % min(layout.codebook_size, 100)
    ids = layout.audio_base + layout.codebook_size * (np.arange(len(codes)) % layout.slots) + codes
    return [*ids.tolist(), *([layout.end_of_speech] if ended else [])]


def taken(token_lm: TokenLM, folder: Path, texts: int, *, takes: int = 2, **about: Any) -> Path:
    """Write takes of some texts: of each the first says codes from 0 on, the others other codes, and more of them."""
    rows = []
    for text in range(texts):
        for number in range(takes):
            ids = drawn(token_lm, 2 + text % 3 + number, 50 * number)
            known = {"prompt_ids": prompt(token_lm, text), "drawn_ids": ids, "speaker": ("ann", "bob")[text % 2]}
            rows.append(take(f"t{text}", number, -float(number), **known))
    known = {"data": {"settings": {"codec": "tiny", "tokenizer": "tiny"}, "speakers": {}, "languages": {}}}
    return write_takes(folder, rows, backend=token_lm.backend, columns=COLUMNS, **{**known, **about})


def recorded(token_lm: TokenLM, folder: Path, frames: Sequence[int], **settings: Any) -> Path:
    """Write a prepared set of utterances with so many frames each, made with these settings."""
    rows = []
    for number, count in enumerate(frames):
        audio = np.array(drawn(token_lm, count, 7 * number, ended=False))
        made = token_lm.prompt.speech_row(np.array(prompt(token_lm, number)[:-1]), audio)
        about = {"id": f"u{number:02}", "text": "x", "speaker": "ann", "language": None, "origin": f"list:{number}"}
        ids = made.input_ids.astype(np.int32)
        sizes = {"prompt_tokens": made.prompt, "num_tokens": len(token_lm.layout.starts(ids)), "frames": count}
        rows.append({**about, **sizes, "input_ids": ids, "seconds": count * 0.1})
    store = ShardStore(folder, SCHEMA, kind=token_lm.kind, length_column="num_tokens")
    report = {"rows": len(rows), "kept": len(rows), "dropped": {}, "hours": 0.0, "speakers": {}, "languages": {}}
    store.finish([store.write("a" * 32, rows, account={})], settings={"tokenizer": "tiny", **settings}, report=report)
    return folder
