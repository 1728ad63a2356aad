"""The names and shapes of the tensors of every released file, asked of the networks themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

import torch
from torch import nn

from tts_train.errors import DataError
from tts_train_gpt_sovits.networks.gpt.network import GptConfig, GptNetwork
from tts_train_gpt_sovits.networks.sovits.build import build_critics, build_flow_network, build_network
from tts_train_gpt_sovits.released.gpt_names import upstream_name as gpt_name
from tts_train_gpt_sovits.released.sovits_names import LORA_TARGETS, upstream_name, upstream_names
from tts_train_gpt_sovits.signal.versions import find_version

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""Shape of each tensor by its released name, in the released order."""

_INSIDE = "matching."
_ADAPTED = "matching.base_model.model."
_FROZEN = ("content_encoder.", "feature_projection.")
_LISTED = 20


def gpt_shapes(config: GptConfig) -> Shapes:
    """Return what a text-to-semantic file of these sizes holds."""
    with torch.device("meta"):
        network = GptNetwork(config)
    return {gpt_name(name): tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@lru_cache
def generator_shapes(version: str) -> Shapes:
    """Return what a whole generator file of a version holds."""
    if find_version(version).kind == "flow":
        with torch.device("meta"):
            return shapes_of(build_flow_network(version))
    # On the meta device, weight normalisation makes torch import its compiler, which takes longer than this.
    return shapes_of(build_network(version))


@lru_cache
def critic_shapes(version: str) -> Shapes:
    """Return what a discriminator file of a version holds."""
    return shapes_of(build_critics(version))


@lru_cache
def lora_shapes(version: str, rank: int, *, exported: bool = True) -> Shapes:
    """Return what a LoRA file of v3 or v4 holds: adapters, the parts trained whole, and the buffers.

    With ``exported`` False, the training checkpoint is meant, which has the frozen parts too.
    """
    with torch.device("meta"):
        network = build_flow_network(version)
    buffers = {name for name, _ in network.named_buffers()}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in network.state_dict().items():
        inside = name.startswith(_INSIDE)
        frozen = name not in buffers and (inside or name.startswith(_FROZEN))
        target = name.rpartition(".")[0] if inside and re.fullmatch(LORA_TARGETS, name.rpartition(".")[0]) else ""
        if not (exported and frozen):
            middle = f"{target}.base_layer.{name.rpartition('.')[2]}" if target else name
            shapes[upstream_name(middle.replace(_INSIDE, _ADAPTED, 1))] = tuple(tensor.shape)
        if target and name.endswith(".weight"):
            outer = target.replace(_INSIDE, _ADAPTED, 1)
            shapes[upstream_name(f"{outer}.lora_A.default.weight")] = (rank, tensor.shape[1])
            shapes[upstream_name(f"{outer}.lora_B.default.weight")] = (tensor.shape[0], rank)
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
