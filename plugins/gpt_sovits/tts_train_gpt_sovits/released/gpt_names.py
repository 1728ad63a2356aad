"""Upstream's tensor names and configuration fields of stage 1, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.signal.versions import GptConfig

PREFIX = "model."
"""What every upstream name begins with."""

_OUTER = {
    "bert_projection.weight": "bert_proj.weight",
    "bert_projection.bias": "bert_proj.bias",
    "phoneme_embedding.weight": "ar_text_embedding.word_embeddings.weight",
    "text_position.alpha": "ar_text_position.alpha",
    "code_embedding.weight": "ar_audio_embedding.word_embeddings.weight",
    "code_position.alpha": "ar_audio_position.alpha",
    "head.weight": "ar_predict_layer.weight",
}
_INNER = {
    "qkv.weight": "self_attn.in_proj_weight",
    "qkv.bias": "self_attn.in_proj_bias",
    "out": "self_attn.out_proj",
    "up": "linear1",
    "down": "linear2",
    "norm1": "norm1",
    "norm2": "norm2",
}


def upstream_name(name: str) -> str:
    """Return upstream's name of one of our tensors, ``model.`` included.

    Raises:
        KeyError: if the network has no such tensor.
    """
    if not name.startswith("layers."):
        return PREFIX + _OUTER[name]
    _, number, inner = name.split(".", 2)
    whole = _INNER.get(inner)
    if whole is None:
        part, _, leaf = inner.partition(".")
        whole = f"{_INNER[part]}.{leaf}"
    return f"{PREFIX}h.layers.{number}.{whole}"


def to_upstream(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our state dict under upstream's names, in our order, which is upstream's order of parameters."""
    return {upstream_name(name): tensor for name, tensor in state.items()}


def from_upstream(weights: Mapping[str, Tensor], names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return upstream's tensors under our names.

    Args:
        weights: Upstream's tensors by name, with or without ``model.``.
        names: The state dict of the network that will take them.

    Raises:
        ConfigError: if a tensor is missing, left over or of another shape; the first ones are named.
    """
    given = {name if name.startswith(PREFIX) else PREFIX + name: tensor for name, tensor in weights.items()}
    wanted = {upstream_name(name): name for name in names}
    missing = [name for name in wanted if name not in given]
    surplus = [name for name in given if name not in wanted]
    bent = [
        f"{theirs} is {list(given[theirs].shape)} instead of {list(names[ours].shape)}"
        for theirs, ours in wanted.items()
        if theirs in given and given[theirs].shape != names[ours].shape
    ]
    faults = [_listed("missing", missing), _listed("unknown", surplus), _listed("wrong shape", bent)]
    if missing or surplus or bent:
        raise ConfigError(
            f"These are not the weights of this text-to-semantic network: {'; '.join(filter(None, faults))}. "
            "Give a GPT file of GPT-SoVITS (an s1 base, or one from GPT_weights*) whose version fits."
        )
    return {ours: given[theirs] for theirs, ours in wanted.items()}


def config_from_upstream(model: Mapping[str, Any]) -> GptConfig:
    """Return the sizes in the ``model`` table of an upstream configuration.

    Raises:
        ConfigError: if a field is missing, or the sizes are none that the network can have.
    """
    try:
        sizes = {name: int(model[name]) for name in _SIZES}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The configuration of this GPT file cannot be used ({type(error).__name__}: {error}); "
            f"its model table must hold {', '.join(_SIZES)}."
        ) from error
    if sizes["embedding_dim"] != sizes["hidden_dim"] or sizes["EOS"] != sizes["vocab_size"] - 1:
        raise ConfigError(
            f"A GPT network has embedding_dim equal to hidden_dim and EOS equal to vocab_size - 1, and this file says "
            f"{sizes}."
        )
    if min(sizes.values()) < 1 or sizes["hidden_dim"] % (2 * sizes["head"]):
        raise ConfigError(f"hidden_dim must be a multiple of twice head, and nothing below 1; this file says {sizes}.")
    return GptConfig(
        phonemes=sizes["phoneme_vocab_size"],
        codes=sizes["vocab_size"],
        width=sizes["hidden_dim"],
        heads=sizes["head"],
        layers=sizes["n_layer"],
    )


def config_to_upstream(config: GptConfig) -> dict[str, int]:
    """Return the ``model`` table that upstream builds the same network from."""
    return {
        "vocab_size": config.codes,
        "phoneme_vocab_size": config.phonemes,
        "embedding_dim": config.width,
        "hidden_dim": config.width,
        "head": config.heads,
        # Upstream's files have this and random_bert (configs/s1longer-v2.yaml); its code reads neither.
        "linear_units": 4 * config.width,
        "n_layer": config.layers,
        # Of the token embeddings alone; 0.1 for positions and layers is written in upstream's code and in no file.
        "dropout": 0,
        "EOS": config.end,
        "random_bert": 0,
    }


_SIZES = ("vocab_size", "phoneme_vocab_size", "embedding_dim", "hidden_dim", "head", "n_layer", "EOS")


def _listed(what: str, names: list[str], most: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what} {', '.join(names[:most])}{more}"
