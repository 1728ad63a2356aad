"""A real Whisper model for CTranslate2 whose weights are written by hand: it says one sentence, whatever it hears.

All of its layers add nothing, so the next token depends on the last one alone: a token's embedding is a vector of its
own, and the next token's row of the projection is that vector. What reads sound, searches, and joins tokens is the
library as it is; the answer and its probability are known beforehand.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np

TEXT = "Bonjour tout le monde."
LANGUAGE = "fr"
_WORDS = ["Bonjour", "Ġtout", "Ġle", "Ġmonde", "."]
_TEXT_TOKENS, _LANGUAGES, _TIMES = 50_257, 99, 1501
_WIDTH = 16
LOGIT = 14.0
"""Of the next token; all others have 0."""
PROBABILITY = math.exp(LOGIT) / (math.exp(LOGIT) + _TEXT_TOKENS + _LANGUAGES + _TIMES)
"""Of each token, about: some of the others are ruled out where a time must stand."""


def vocabulary() -> list[str]:
    """Return the tokens in the order of OpenAI's vocabulary for all languages: 51,865."""
    from faster_whisper.tokenizer import _LANGUAGE_CODES
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    text = [*letters, *_WORDS[:-1]]
    text += [f"unused{number}" for number in range(_TEXT_TOKENS - len(text) - 1)]
    text.append("")  # by which CTranslate2 tells a model for all languages from an English one
    languages = ["en", *sorted(set(_LANGUAGE_CODES) - {"en", "yue"})][:_LANGUAGES]
    tasks = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    times = [f"{number * 0.02:.2f}" for number in range(_TIMES)]
    special = ["endoftext", "startoftranscript", *languages, *tasks, *times]
    return [*text, *(f"<|{name}|>" for name in special)]


def write(folder: Path) -> Path:
    """Write the model as ``ct2-transformers-converter`` would."""
    from ctranslate2.converters.transformers import WhisperLoader
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    tokens = vocabulary()
    config = WhisperConfig(
        vocab_size=len(tokens), d_model=_WIDTH, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1,
        decoder_attention_heads=1, encoder_ffn_dim=_WIDTH, decoder_ffn_dim=_WIDTH,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    for name, weights in model.named_parameters():
        weights.data.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    embeddings, projection = _tables(tokens)
    loader = WhisperLoader()
    spec = loader.get_model_spec(model)
    spec.decoder.embeddings.weight = embeddings
    spec.decoder.projection.weight = projection
    spec.register_vocabulary(tokens)
    languages = [number for number, token in enumerate(tokens) if len(token) in (6, 7) and token.startswith("<|")]
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.lang_ids = [number for number in languages if tokens[number][2:-2].isalpha()]
    spec.validate()
    spec.optimize(quantization="float32")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    _tokenizer(tokens).save(str(folder / "tokenizer.json"))
    return folder


def _tables(tokens: list[str]) -> tuple[np.ndarray, np.ndarray]:
    chain = [
        "<|startoftranscript|>",
        f"<|{LANGUAGE}|>",
        "<|transcribe|>",
        "<|0.00|>",
        *_WORDS,
        "<|1.00|>",
        "<|endoftext|>",
    ]
    # Rows of a Hadamard matrix but the first: each has mean 0 and variance 1, as the normalisation leaves it.
    signs = np.array([[1.0]])
    while len(signs) < _WIDTH:
        signs = np.kron(signs, [[1.0, 1.0], [1.0, -1.0]])
    shape = (len(tokens), _WIDTH)
    embeddings, projection = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    index = {token: number for number, token in enumerate(tokens)}
    for number, (one, then) in enumerate(itertools.pairwise(chain), start=1):
        embeddings[index[one]] = signs[number]
        projection[index[then]] += LOGIT / _WIDTH * signs[number]
    # Where no times are asked for, the text begins behind this token.
    embeddings[index["<|notimestamps|>"]] = embeddings[index["<|0.00|>"]]
    return embeddings, projection


def _tokenizer(tokens: list[str]):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    text = tokens[:_TEXT_TOKENS]
    made = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(text)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in tokens[_TEXT_TOKENS:-_TIMES]])
    made.add_tokens([AddedToken(token) for token in tokens[-_TIMES:]])
    return made
