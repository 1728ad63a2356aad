"""Text features of Chinese, one vector a phoneme, from a BERT (Cui et al. 2021, arXiv 1906.08101)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tts_train.contract import DataError
from tts_train_gpt_sovits.features.batching import like_length
from tts_train_gpt_sovits.features.weights import TINY, draw, fill, fingerprint, freeze, read_folder
from tts_train_gpt_sovits.released.bases import base_folder

if TYPE_CHECKING:
    from transformers import BertModel

CHANNELS = 1024
_LAYERS_LEFT_OUT = 2
"""The features are the third hidden state from the end, so the last two layers are never built."""
_BATCH_TOKENS = {"cpu": 512, "cuda": 16_384}
_EDGES = 2
_VOCABULARIES = ("tokenizer.json", "vocab.txt")
_TINY_SEED = 20_262


class BertFeatures:
    """Texts to features, the same for a text whatever else is in its batch.

    Every character is one token: looked up alone, and unknown to the network where the tokenizer makes nothing or
    several pieces of it. For Chinese and punctuation that is what the tokenizer does with the whole text. It would
    join letters and digits to pieces and leave out spaces, and the features would no longer stand on their characters.

    Args:
        network: A BERT with 1,024 channels whose last hidden states are the features.
        tokens: The token of a character.
        edges: The tokens before and after a text.
        name: Fingerprint of the network.
        device: Where it computes.
    """

    def __init__(
        self,
        network: BertModel,
        *,
        tokens: Callable[[str], int],
        edges: tuple[int, int],
        name: str,
        device: str | torch.device = "cpu",
    ) -> None:
        freeze(network, device)
        self.network = network
        self.tokens = tokens
        self.edges = edges
        self.fingerprint = name
        self.device = torch.device(device)

    @classmethod
    def load(cls, source: str, device: str | torch.device = "cpu") -> BertFeatures:
        """Return the network of a folder, of a hub name, ``released``, or a small one of chance for ``tiny``.

        Raises:
            ConfigError: if there is no such network.
            DataError: if it is not a BERT with 1,024 channels, or has no tokenizer beside it.
            UnsafeFileError: if its weights could run code.
        """
        if source == TINY:
            network, name = tiny_bert()
            known = int(network.config.vocab_size) - _EDGES
            return cls(network, tokens=lambda char: _EDGES + ord(char) % known, edges=(0, 1), name=name, device=device)
        folder = base_folder(source, "bert")
        network, name = _read(folder)
        tokens, edges = _read_tokens(folder)
        return cls(network, tokens=tokens, edges=edges, name=name, device=device)

    @torch.no_grad()
    def encode(self, parts: Sequence[tuple[str, Sequence[int]]]) -> list[Tensor]:
        """Return the features, float32 (phonemes, 1024) on the CPU, of texts and the phonemes of their characters.

        Args:
            parts: Normalised text, and how many phonemes each of its characters has.

        Raises:
            DataError: if a text is empty or too long, or has another number of characters than counts.
        """
        for index, (text, counts) in enumerate(parts):
            self._check(index, text, counts)
        done: dict[int, Tensor] = {}
        # On a device that is not named each text goes alone.
        for group in like_length([len(text) for text, _ in parts], _BATCH_TOKENS.get(self.device.type, 0)):
            states = self._read_together([parts[i][0] for i in group])
            for index, rows in zip(group, states, strict=True):
                done[index] = rows.repeat_interleave(torch.tensor(parts[index][1]), dim=0)
        return [done[index] for index in range(len(parts))]

    def _read_together(self, texts: Sequence[str]) -> list[Tensor]:
        """Return the state of each character, (characters, 1024)."""
        longest = max(map(len, texts))
        first, last = self.edges
        tokens = torch.zeros(len(texts), longest + _EDGES, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            row[: len(text) + _EDGES] = torch.tensor([first, *map(self.tokens, text), last])
        lengths = torch.tensor([len(text) + _EDGES for text in texts])
        mask = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
        answer = self.network(tokens.to(self.device), attention_mask=mask.to(self.device)).last_hidden_state.cpu()
        return [row[1 : len(text) + 1] for row, text in zip(answer, texts, strict=True)]

    def _check(self, index: int, text: str, counts: Sequence[int]) -> None:
        longest = int(self.network.config.max_position_embeddings) - _EDGES
        if not 0 < len(text) <= longest:
            raise DataError(f"Text {index} has {len(text)} characters, not 1 to {longest}. Cut the recording.")
        if len(text) != len(counts):
            raise DataError(f"Text {index} has {len(text)} characters and phoneme counts for {len(counts)}.")


def _read(folder: Path) -> tuple[BertModel, str]:
    from transformers import BertConfig, BertModel

    config, weights = read_folder(folder)
    sizes = (config.get("model_type", "bert"), config.get("hidden_size"))
    if sizes != ("bert", CHANNELS) or int(config.get("num_hidden_layers", 0)) <= _LAYERS_LEFT_OUT:
        raise DataError(
            f"{folder} is not a BERT of {CHANNELS} channels. Give a folder of chinese-roberta-wwm-ext-large."
        )
    used = {**config, "num_hidden_layers": int(config["num_hidden_layers"]) - _LAYERS_LEFT_OUT}
    network = BertModel(BertConfig.from_dict(used), add_pooling_layer=False)
    fill(network, _rename(weights), source=str(folder))
    return network, fingerprint(network.state_dict())


def _rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors without its prefix, and with norms named as they are today."""
    renamed = {}
    for name, tensor in weights.items():
        name = name.removeprefix("bert.")
        for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
            name = name.replace(old, new)
        renamed[name] = tensor
    return renamed


def _read_tokens(folder: Path) -> tuple[Callable[[str], int], tuple[int, int]]:
    from transformers import AutoTokenizer

    # Without either, transformers makes a tokenizer that knows no word.
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise DataError(f"{folder} has no {' or '.join(_VOCABULARIES)} for the tokenizer. Download the whole folder.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise DataError(f"The tokenizer of {folder} cannot be read: {error}. Download it again.") from error

    @cache
    def token(char: str) -> int:
        pieces = tokenizer.tokenize(char)
        piece = pieces[0] if len(pieces) == 1 else tokenizer.unk_token
        return int(tokenizer.convert_tokens_to_ids(piece))

    return token, (int(tokenizer.cls_token_id), int(tokenizer.sep_token_id))


def tiny_bert() -> tuple[BertModel, str]:
    """Return a BERT of one narrow layer with 1,024 channels, and its fingerprint."""
    from transformers import BertConfig, BertModel

    sizes = BertConfig(
        vocab_size=512, hidden_size=1024, num_hidden_layers=1, num_attention_heads=16, intermediate_size=64
    )
    network = BertModel(sizes, add_pooling_layer=False)
    draw(network, _TINY_SEED)
    return network, fingerprint(network.state_dict())
