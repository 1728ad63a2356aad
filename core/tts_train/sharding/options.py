"""What ``--fsdp.*`` says about dividing a network; imports neither torch nor Lightning."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from tts_train.errors import ConfigError

NAME = "fsdp"
"""What stands after ``--trainer.strategy``."""

HalfType: TypeAlias = Literal["stored", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class FsdpOptions:
    """How ``--trainer.strategy fsdp`` divides weights, gradients and optimiser states over processes."""

    shard: Literal["full", "gradients"] = "full"
    """``full`` gathers a block's weights again in backward; ``gradients`` keeps them from forward to backward, which
    is faster and needs the memory of all weights once."""
    replicas: int = 1
    """Groups of processes that each hold the whole network; a divisor of the processes. With as many as there are
    machines only gradients travel between machines (hybrid sharding)."""
    wrap: Literal["blocks", "size", "none"] = "blocks"
    """What is gathered at a time: the ``blocks`` of the stage's ``sharding``, whatever members of lists of modules
    reach ``min_parameters`` (``size``), or the whole network (``none``)."""
    blocks: tuple[str, ...] = ()
    """Class names of blocks, instead of the stage's own."""
    min_parameters: int = 100_000_000
    """Parameters from which ``wrap: size`` gathers a module by itself."""
    prefetch: int = 1
    """Blocks that are gathered ahead of the one that computes; more take memory."""
    cpu_offload: bool = False
    """Keep shards, gradients and optimiser states in host memory; slow."""
    checkpoint: Literal["full", "sharded"] = "full"
    """``full``: one file of weights, gathered tensor by tensor; ``sharded``: each process writes its own rows. Any
    number of processes, and every export, reads both."""
    gather_dtype: HalfType = "stored"
    """Type in which weights are gathered and computed with; ``bfloat16`` halves what travels. ``stored``: as they are,
    cast where ``--trainer.precision`` says so."""
    reduce_dtype: HalfType = "stored"
    """Type in which gradients are summed over processes; ``stored``: that in which they were computed."""

    def __post_init__(self) -> None:
        for field, least in (("replicas", 1), ("min_parameters", 1), ("prefetch", 1)):
            if getattr(self, field) < least:
                raise ConfigError(f"--fsdp.{field} must be at least {least}, and {getattr(self, field)} was given.")

    def given(self) -> list[str]:
        """Return the options that are not at their defaults, as they are typed."""
        usual = FsdpOptions()
        unlike = [each.name for each in fields(self) if getattr(self, each.name) != getattr(usual, each.name)]
        return [f"--{NAME}.{name}" for name in unlike]
