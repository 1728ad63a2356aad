"""Tokenizers: loaded and checked against what a model needs, or built without any file, a token a byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tts_train.errors import ConfigError
from tts_train.weights.hub import from_hub

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def byte_tokenizer(special: Mapping[str, int], *, size: int, bos: str, eos: str, pad: str) -> PreTrainedTokenizerBase:
    """Build a tokenizer of ``size`` ids: 0 to 255 are bytes, the special ones have their ids, no text gives the others.

    Args:
        special: Id of each control token by its name.
        size: Ids in all.
        bos: Name of the token before a text.
        eos: Name of the one that ends it.
        pad: Name of the one that fills batches.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = {index: f"<|unused_{index}|>" for index in range(256, size)} | {i: name for name, i in special.items()}
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary | {name: index for index, name in names.items()}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, pad_token=pad, clean_up_tokenization_spaces=False
    )


def checked_tokenizer(source: str, special: Mapping[str, int], *, model: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder or the hub.

    Args:
        source: A folder or a hub name.
        special: Id that each control token must have, by its name.
        model: What it is for, for messages.

    Raises:
        ConfigError: if it cannot be loaded, or a control token has another id.
    """
    from transformers import AutoTokenizer, PretrainedConfig

    failed = f"No tokenizer could be loaded from {source!r}:"
    advice = "Give --tokenizer a folder with tokenizer.json, the name of a model you have access to, or 'tiny'."
    with from_hub(source, failed=failed, advice=advice) as cached:
        # Its own files say what it is; the model's config.json beside them would be read and judged as well.
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, config=PretrainedConfig(), local_files_only=cached
        )
    known = tokenizer.get_vocab()
    wrong = [
        f"{name} (needs {index}, has {known.get(name)})" for name, index in special.items() if known.get(name) != index
    ]
    if wrong:
        raise ConfigError(f"The tokenizer {source!r} is not {model}'s: {', '.join(wrong)}. Give {model}'s own.")
    return tokenizer
