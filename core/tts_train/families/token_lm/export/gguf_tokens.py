"""A tokenizer as llama.cpp's table of tokens, types and merges."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gguf

from tts_train.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import TokenLayout
    from tts_train.families.token_lm.model import TokenLM

_NUL = "\u0100"
"""The name of the byte 0, which no text has."""


@dataclass(frozen=True)
class GgufTokens:
    """One entry for each row of the embedding, by id."""

    names: list[str]
    types: list[int]
    merges: list[str]

    def describe(self, writer: gguf.GGUFWriter, token_lm: TokenLM) -> None:
        """Write the table and the special ids."""
        layout = token_lm.layout
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(token_lm.gguf_pre_tokenizer)
        writer.add_token_list(self.names)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        writer.add_bos_token_id(layout.begin_of_text)
        # The text model's end, which other converters take over, never comes after speech: generation would not stop.
        writer.add_eos_token_id(layout.end_of_speech)
        writer.add_pad_token_id(layout.text_pad)
        writer.add_add_bos_token(True)


def read_tokens(layout: TokenLayout, tokenizer: PreTrainedTokenizerBase, *, rows: int) -> GgufTokens:
    """Read a fast byte-level tokenizer into a table of exactly ``rows`` tokens; ids that it lacks get a name.

    Raises:
        ConfigError: if it is no byte-level BPE, or has ids beyond ``rows``.
    """
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model: dict[str, Any] = described["model"]
    if model.get("type") != "BPE" or "ByteLevel" not in json.dumps(described["pre_tokenizer"]):
        raise ConfigError(
            f"llama.cpp needs a byte-level BPE, and this tokenizer is {model.get('type')}. Give --tokenizer."
        )
    by_id = {index: name for name, index in tokenizer.get_vocab().items()}
    if max(by_id) >= rows:
        raise ConfigError(
            f"The tokenizer has ids up to {max(by_id)} and the network {rows} rows. Give its own --tokenizer."
        )
    added = {entry["id"]: bool(entry["special"]) for entry in described["added_tokens"]}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    names = [by_id.get(index, f"[PAD{index}]") for index in range(rows)]
    if not merges:
        # llama.cpp refuses a table without merges, and others a merge whose result has no id: two bytes 0 get one that
        # nothing is made of, as nothing is merged.
        names[next(index for index, name in enumerate(names) if len(name) > 1)] = _NUL * 2
        merges = [f"{_NUL} {_NUL}"]
    types = [int(_type(layout, index, index in by_id, added)) for index in range(rows)]
    return GgufTokens(names=names, types=types, merges=merges)


def _type(layout: TokenLayout, index: int, known: bool, added: dict[int, bool]) -> gguf.TokenType:
    if not known:
        return gguf.TokenType.UNUSED
    if layout.slot_of(index) >= 0:
        # llama.cpp prints these and hides control tokens; programs read the codes from the text.
        return gguf.TokenType.USER_DEFINED
    if index in added:
        return gguf.TokenType.CONTROL if added[index] else gguf.TokenType.USER_DEFINED
    return gguf.TokenType.NORMAL
