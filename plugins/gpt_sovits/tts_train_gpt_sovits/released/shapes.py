"""The names and shapes of the tensors of every released file, computed from sizes: no network is built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import nn

from tts_train.contract import DataError
from tts_train_gpt_sovits.released.sovits_names import upstream_names
from tts_train_gpt_sovits.released.sovits_shapes import critic_table, generator_table
from tts_train_gpt_sovits.signal.versions import BERT_WIDTH, GptConfig, find_kind

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Shape of each tensor by its released name, in the released order."""

_INSIDE = "cfm."
_ADAPTED = "cfm.base_model.model."
# Upstream exports every entry but frozen parameters: style encoder, bridge and refinement are not frozen, and stand
# whole beside the adapters (s2_train_v3_lora.py).
_FROZEN = ("cfm.", "enc_p.", "ssl_proj.")
"""Beginnings of what a LoRA leaves as it is."""
_BUFFERS = ("cfm.estimator.rotary_embed.inv_freq",)
"""What of it a LoRA's file holds all the same."""
_TARGETS = r"cfm\.base_model\.model\..*\.attn\.to_(q|k|v|out\.0)"
_LISTED = 20


def gpt_shapes(config: GptConfig) -> Shapes:
    """Return what a text-to-semantic file of these sizes holds."""
    width = config.width
    table: dict[str, tuple[int, ...]] = {
        "model.bert_proj.weight": (width, BERT_WIDTH),
        "model.bert_proj.bias": (width,),
        "model.ar_text_embedding.word_embeddings.weight": (config.phonemes, width),
        # The tables of sines are in no file; only what scales them is learned.
        "model.ar_text_position.alpha": (1,),
        "model.ar_audio_embedding.word_embeddings.weight": (config.codes, width),
        "model.ar_audio_position.alpha": (1,),
    }
    layer = {
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        "self_attn.out_proj.weight": (width, width),
        "self_attn.out_proj.bias": (width,),
        "linear1.weight": (4 * width, width),
        "linear1.bias": (4 * width,),
        "linear2.weight": (width, 4 * width),
        "linear2.bias": (width,),
        **{f"norm{i}.{part}": (width,) for i in (1, 2) for part in ("weight", "bias")},
    }
    for number in range(config.layers):
        table |= {f"model.h.layers.{number}.{name}": shape for name, shape in layer.items()}
    table["model.ar_predict_layer.weight"] = (config.codes, width)
    return table


def generator_shapes(version: str, sizes: Mapping[str, Any] | None = None) -> Shapes:
    """Return what a whole generator file holds.

    Args:
        version: Its version.
        sizes: The ``model`` table of its settings; the released sizes of the version if None.
    """
    return generator_table(version, sizes)


def critic_shapes(version: str, *, shrink: int = 1) -> Shapes:
    """Return what a discriminator file of a version holds, with ``shrink`` times fewer channels.

    Raises:
        ConfigError: if that version has none.
    """
    return critic_table(find_kind(version, "gan").periods, shrink=shrink)


def lora_shapes(version: str, rank: int, *, exported: bool = True) -> Shapes:
    """Return what a LoRA file of v3 or v4 holds: adapters, the parts trained whole, and the buffers.

    With ``exported`` False, the training checkpoint is meant, which has the frozen parts too.

    Raises:
        ConfigError: if that version has no such files.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in generator_table(find_kind(version, "flow").name).items():
        frozen = name.startswith(_FROZEN) and name not in _BUFFERS
        target, _, leaf = name.replace(_INSIDE, _ADAPTED, 1).rpartition(".")
        adapted = re.fullmatch(_TARGETS, target) is not None
        if not (exported and frozen):
            # peft moves an adapted layer's own weights one name further in.
            shapes[f"{target}.base_layer.{leaf}" if adapted else f"{target}.{leaf}"] = shape
        if adapted and leaf == "weight":
            shapes[f"{target}.lora_A.default.weight"] = (rank, shape[1])
            shapes[f"{target}.lora_B.default.weight"] = (shape[0], rank)
    return shapes


def shapes_of(network: nn.Module) -> Shapes:
    """Return what a file of a SoVITS network of any size holds."""
    state = network.state_dict()
    return {released: tuple(state[name].shape) for name, released in upstream_names(network).items()}


def check_shapes(what: str, given: Shapes, expected: Shapes, *, omitted: tuple[str, ...] = ()) -> None:
    """Compare names and shapes.

    Args:
        what: What is compared, for the message.
        given: Shapes that are there.
        expected: Shapes that should be.
        omitted: Beginnings of names that may be missing.

    Raises:
        DataError: listing names that are missing, unknown or of another shape.
    """
    faults = [
        f"{name} is missing" for name in expected if name not in given and not name.startswith(omitted or ("\0",))
    ]
    faults += [f"{name} is unknown" for name in given if name not in expected]
    faults += [
        f"{name} has shape {given[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    if faults:
        listed = "\n  ".join(faults[:_LISTED])
        more = f"\n  and {len(faults) - _LISTED} more" if len(faults) > _LISTED else ""
        raise DataError(f"{what} does not hold the tensors it should, {len(faults)} differ:\n  {listed}{more}")
