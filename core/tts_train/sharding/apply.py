"""Cutting networks with PyTorch's ``fully_shard`` (FSDP2) as a stage's ``Sharding`` says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard

from tts_train.contract.backend import Sharding
from tts_train.errors import ConfigError
from tts_train.sharding.options import FsdpOptions, HalfType

logger = logging.getLogger(__name__)

# Members of these are called one after the other through forward, never read from outside.
_HOLDERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
_TYPES: dict[HalfType, torch.dtype | None] = {
    "stored": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def apply_sharding(module: nn.Module, sharding: Sharding, options: FsdpOptions, mesh: DeviceMesh) -> None:
    """Divide every network below ``module`` over the processes of ``mesh``, in place.

    Each direct child with parameters is a network of its own and must be called through its ``forward``, which is
    where its weights are gathered. ``module`` itself, Lightning's, is never called and is not wrapped.

    Args:
        module: holds the networks.
        sharding: the stage's.
        options: what ``--fsdp.*`` says.
        mesh: the processes; two-dimensional (replicas, shards) for hybrid sharding.

    Raises:
        ConfigError: if the network cannot be divided so.
    """
    _refuse_loose_parameters(module)
    settings: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=_TYPES[options.gather_dtype], reduce_dtype=_TYPES[options.reduce_dtype]
        ),
    }
    if options.cpu_offload:
        # Pinned memory is a card's: where processes compute on CPUs there is no driver to pin it.
        settings["offload_policy"] = CPUOffloadPolicy(pin_memory=mesh.device_type != "cpu")
    # Inner blocks before the network around them: fully_shard takes what no module below has taken.
    found = 0
    for network in networks(module):
        blocks = list(_blocks(network, sharding, options))
        found += len(blocks)
        for block in blocks:
            _fully_shard(block, reshard_after_forward=options.shard == "full", **settings)
        network.register_forward_hook(_show_outputs)  # before FSDP's own hook, which looks into what it gets
        # The outermost weights are needed first in backward: None keeps them gathered until then.
        _fully_shard(network, reshard_after_forward=None if options.shard == "full" else False, **settings)
        _prefetch(blocks, options.prefetch)
    _refuse_nothing_found(module, found, sharding, options)
    logger.info("Sharded over %s processes, %d blocks gathered one at a time.", "x".join(map(str, mesh.shape)), found)


def networks(module: nn.Module) -> list[nn.Module]:
    """Return the children that have parameters."""
    return [child for child in module.children() if any(True for _ in child.parameters())]


def _blocks(network: nn.Module, sharding: Sharding, options: FsdpOptions) -> Iterator[nn.Module]:
    if options.wrap == "none":
        return
    names = options.blocks or sharding.wrap
    if options.wrap == "size":
        chosen = _by_size(network, options.min_parameters)
    else:
        chosen = [module for module in network.modules() if type(module).__name__ in names and module is not network]
    for block in chosen:
        if _shares(block, network):
            if options.wrap == "size":
                continue
            raise ConfigError(
                f"Blocks of class {type(block).__name__} share parameters with the rest of the network, so they "
                "cannot be gathered by themselves. Leave the class out of --fsdp.blocks, or give --fsdp.wrap none."
            )
        yield block


def _by_size(network: nn.Module, least: int) -> list[nn.Module]:
    """Return modules with at least ``least`` parameters that no smaller chosen module holds, innermost first.

    Only members of lists and sequences, and what is inside them: those are called through ``forward``, which networks
    do not promise of their other parts (an output matrix may be read by a fused loss, an inner model called directly).
    """
    chosen: list[nn.Module] = []

    def visit(module: nn.Module, *, listed: bool) -> set[int]:
        taken: set[int] = set()
        holds = isinstance(module, _HOLDERS)
        for child in module.children():
            taken |= visit(child, listed=listed or holds)
        # What smaller chosen modules hold is gathered by them already.
        rest = {id(p): p.numel() for p in module.parameters() if id(p) not in taken}
        if listed and not holds and sum(rest.values()) >= least and not _shares(module, network):
            chosen.append(module)
            taken |= set(rest)
        return taken

    visit(network, listed=False)
    return chosen


def _shares(block: nn.Module, network: nn.Module) -> bool:
    inside = {id(module) for module in block.modules()}
    own = {id(p) for p in block.parameters()}
    outside = (module for module in network.modules() if id(module) not in inside)
    # A tied weight that one block shards would be gone when its other place looks for it.
    return any(id(p) in own for module in outside for p in module.parameters(recurse=False))


def _fully_shard(module: nn.Module, **settings: Any) -> None:  # noqa: ANN401 - handed through
    try:
        fully_shard(module, **settings)
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"{type(module).__name__} cannot be sharded: {error}. Use --trainer.strategy ddp.") from error


def _prefetch(blocks: list[nn.Module], count: int) -> None:
    """Gather ``count`` blocks ahead; one is what FSDP does by itself."""
    if count == 1:
        return
    sharded: list[FSDPModule] = [block for block in blocks if isinstance(block, FSDPModule)]
    for index, block in enumerate(sharded):
        if following := sharded[index + 1 : index + 1 + count]:
            block.set_modules_to_forward_prefetch(following)
        if before := sharded[max(index - count, 0) : index][::-1]:
            block.set_modules_to_backward_prefetch(before)


def _show_outputs(network: nn.Module, _inputs: object, output: object) -> None:
    """Let FSDP find the tensors in a dataclass: it follows their gradients, and without any it would reduce none.

    Raises:
        ConfigError: if a network that is trained returns no tensor with a gradient that FSDP can find.
    """
    # transformers' outputs are registered by transformers; a backend's own are not.
    if is_dataclass(output) and type(output) not in pytree.SUPPORTED_NODES:
        pytree.register_dataclass(type(output))
    if not torch.is_grad_enabled() or not any(parameter.requires_grad for parameter in network.parameters()):
        return
    found = (leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor))
    if not any(leaf.requires_grad for leaf in found):
        raise ConfigError(
            f"{type(network).__name__} returns {type(output).__name__}, in which no tensor with a gradient is found, "
            "so its gradients would not be summed over processes. Return a tensor, a tuple, a dict or a dataclass of "
            "tensors from forward, or use --trainer.strategy ddp."
        )


def _refuse_loose_parameters(module: nn.Module) -> None:
    loose = [name for name, _ in module.named_parameters(recurse=False)]
    if loose:
        raise ConfigError(
            f"{type(module).__name__} has parameters outside any network ({', '.join(loose[:3])}), which sharding "
            "would leave out. Use --trainer.strategy ddp, or move them into a network."
        )


def _refuse_nothing_found(module: nn.Module, found: int, sharding: Sharding, options: FsdpOptions) -> None:
    names = options.blocks or sharding.wrap
    if options.wrap == "blocks" and names and not found:
        known = sorted({type(part).__name__ for network in networks(module) for part in network.modules()})
        raise ConfigError(
            f"No module is of class {' or '.join(names)}, by which the network was to be divided. There are: "
            f"{', '.join(known[:20])}. Name one with --fsdp.blocks, or give --fsdp.wrap size or none."
        )
