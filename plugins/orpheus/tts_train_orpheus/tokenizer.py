"""Orpheus's tokenizer: loaded and checked against the layout, or a tiny one built without any download."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from tts_train.contract import ConfigError
from tts_train.weights import from_hub
from tts_train_orpheus import layout

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TINY = "tiny"
"""The source that stands for the built-in tokenizer: one token a byte, Orpheus's ids for everything else."""

BEGIN, END, PAD, TURN = "<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|eot_id|>"
AUDIO = "<|audio|>"

_log = logging.getLogger(__name__)
_SPECIAL = {BEGIN: layout.BEGIN_OF_TEXT, END: layout.BEGIN_OF_TEXT + 1, PAD: layout.TEXT_PAD, TURN: layout.END_OF_TURN}


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """Return a fast transformers tokenizer from a hub name, a folder, or ``tiny``, with a pad token set.

    Raises:
        ConfigError: if it cannot be loaded, or lacks ids that Orpheus needs; the message names them.
    """
    if source == TINY:
        return copy.deepcopy(_checked_tiny())  # exports change theirs
    tokenizer = _load(source)
    check_tokenizer(tokenizer, source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = PAD
        _log.info("%s names no padding token; using %s (%d)", source, PAD, layout.TEXT_PAD)
    return tokenizer


def tiny_tokenizer() -> PreTrainedTokenizerBase:
    """Build the byte-level tokenizer: ids 0 to 255 are bytes, and every id of the layout has its real number."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = dict(_tiny_vocabulary())
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*_SPECIAL, AUDIO)])
    backend.add_tokens([AddedToken(custom_token(n), normalized=False) for n in range(layout.CUSTOM_TOKENS)])
    # As the released tokenizer does: every text begins with BOS and ends with nothing.
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN} $B", special_tokens=[(BEGIN, layout.BEGIN_OF_TEXT)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=BEGIN, eos_token=TURN, pad_token=PAD, clean_up_tokenization_spaces=False
    )


@cache
def _checked_tiny() -> PreTrainedTokenizerBase:
    """Return the built-in tokenizer, made once in a process: a copy takes a third of the time."""
    tokenizer = tiny_tokenizer()
    check_tokenizer(tokenizer, TINY)
    return tokenizer


def custom_token(number: int) -> str:
    """Return the name of the token whose id is ``CUSTOM_BASE + number``."""
    return f"<custom_token_{number}>"


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Check that a tokenizer has every id of the layout and puts BOS, and nothing else, around a text.

    Raises:
        ConfigError: naming up to five ids that are missing or different, and how many there are.
    """
    vocabulary = tokenizer.get_vocab()
    # All of them and not a sample: a relative of this tokenizer may lack the last audio tokens only.
    wrong = [(name, index, vocabulary.get(name)) for name, index in _needed() if vocabulary.get(name) != index]
    if wrong:
        shown = ", ".join(f"{name} (needs {index}, has {found})" for name, index, found in wrong[:5])
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ConfigError(
            f"The tokenizer {source!r} is not Orpheus's: {shown}{more}. Give one that belongs to an Orpheus model."
        )
    # A table of ids does not say what is put around a text.
    ids = tokenizer.encode("a", add_special_tokens=True)
    if ids[0] != layout.BEGIN_OF_TEXT or any(index >= layout.TEXT_TOKENS for index in ids[1:]):
        rule = f"must put BOS ({layout.BEGIN_OF_TEXT}) and nothing else around a text"
        raise ConfigError(f"The tokenizer {source!r} {rule}, and 'a' became {ids}.")


def _load(source: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    failed = f"No tokenizer could be loaded from {source!r}:"
    advice = f"Give --tokenizer a folder with tokenizer.json, the name of a model you have access to, or {TINY!r}."
    with from_hub(source, failed=failed, advice=advice) as cached:
        return AutoTokenizer.from_pretrained(source, use_fast=True, local_files_only=cached)


def _needed() -> Iterator[tuple[str, int]]:
    yield from ((name, index) for name, index in _SPECIAL.items() if name != END)
    yield from ((custom_token(n), layout.CUSTOM_BASE + n) for n in range(layout.CUSTOM_TOKENS))
    yield AUDIO, layout.AUDIO_MARK


def _tiny_vocabulary() -> Iterator[tuple[str, int]]:
    """Yield every id once: bytes, text that is never produced, Llama's special tokens, and Orpheus's own."""
    from tokenizers import pre_tokenizers

    special = {index: name for name, index in _SPECIAL.items()}
    yield from ((letter, index) for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet())))
    for index in range(256, layout.CUSTOM_BASE):
        yield special.get(index, f"<|unused_{index}|>"), index
    yield from ((custom_token(n), layout.CUSTOM_BASE + n) for n in range(layout.CUSTOM_TOKENS))
    yield AUDIO, layout.AUDIO_MARK
