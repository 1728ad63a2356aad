"""What can be said about an optimiser and about its learning rate over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from tts_train.errors import ConfigError

OptimizerName: TypeAlias = Literal["adamw", "adamw8bit", "paged_adamw8bit", "adafactor", "lion8bit"]
Rounding: TypeAlias = Literal["nearest", "stochastic", "master"]
ScheduleName: TypeAlias = Literal["cosine", "linear", "constant"]

STREAMABLE = ("adamw", "adamw8bit", "lion8bit")
"""Optimisers that can step one parameter, or a part of it, at a time."""


@dataclass(frozen=True)
class OptimizerOptions:
    """The optimiser, its numbers, and where its memory goes."""

    name: OptimizerName = "adamw"
    """``adamw`` (fused, 8 bytes of state a parameter in float32); ``adamw8bit`` (2 bytes), ``paged_adamw8bit`` (its
    state moves to host memory when the device is full) and ``lion8bit`` (1 byte) from bitsandbytes; ``adafactor``
    (hardly any state)."""
    lr: float = 2e-4
    """Learning rate after warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running mean and of the running square; adafactor has none."""
    eps: float = 1e-8
    """Added to the root of the running square; lion8bit and adafactor have their own."""
    weight_decay: float = 0.0
    """Decoupled weight decay a step, as a factor on lr."""
    decay: Literal["matrices", "all"] = "matrices"
    """What decays: ``matrices`` leaves out norms and biases, where 0 is no neutral value, and embeddings, whose rare
    rows would shrink between their uses; ``all`` leaves out nothing."""
    in_backward: bool = False
    """Step each parameter inside backward as soon as its gradient is there, and drop the gradient: gradients never
    exist together. Without accumulation, and clipping is that of ``clip_value`` alone."""
    clip_value: float | None = None
    """With ``in_backward``: hold every gradient between plus and minus this."""
    rounding: Rounding = "nearest"
    """How a step's result becomes a bfloat16 weight (bf16-true): ``nearest`` loses changes below 1/512 of the weight;
    ``stochastic`` rounds up or down so that they are kept on average; ``master`` keeps the weights in float32 beside
    it (4 bytes a parameter). With the last two adamw's states are float32."""
    offload: bool = False
    """Keep the optimiser's states in host memory and bring them to the device part by part for the step."""

    def __post_init__(self) -> None:
        _refuse_unless(self.name in get_args(OptimizerName), "name", self.name, ", ".join(get_args(OptimizerName)))
        _refuse_unless(self.lr > 0 and math.isfinite(self.lr), "lr", self.lr, "above 0")
        betas = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        _refuse_unless(betas, "betas", self.betas, "two numbers from 0 to below 1")
        _refuse_unless(self.eps > 0, "eps", self.eps, "above 0")
        _refuse_unless(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _refuse_unless(self.decay in ("matrices", "all"), "decay", self.decay, "matrices or all")
        _refuse_unless(self.rounding in get_args(Rounding), "rounding", self.rounding, ", ".join(get_args(Rounding)))
        if self.clip_value is not None:
            good = self.in_backward and self.clip_value > 0
            _refuse_unless(good, "clip_value", self.clip_value, "above 0, and used together with in_backward true")
        if self.streamed and self.name not in STREAMABLE:
            raise ConfigError(
                f"--model.optimizer.name {self.name} cannot be used with in_backward, offload, or a rounding other "
                f"than nearest. Those go with {', '.join(STREAMABLE)}; adamw8bit with offload true does what "
                "paged_adamw8bit is for."
            )

    @property
    def streamed(self) -> bool:
        """Whether parameters are stepped one by one rather than all at once."""
        return self.in_backward or self.offload or self.rounding != "nearest"


@dataclass(frozen=True)
class ScheduleOptions:
    """How the learning rate moves: a function of the step alone, so that a resumed run is on the same curve."""

    name: ScheduleName = "cosine"
    """Shape after warm-up: ``cosine`` or ``linear`` down to ``final_share`` at the last step, or ``constant``."""
    warmup_steps: int = 0
    """Steps over which the rate rises evenly from 0 to lr; give this or ``warmup_share``."""
    warmup_share: float = 0.0
    """The same as a share (0 to below 1) of the run's steps."""
    final_share: float = 0.0
    """Rate at the last step as a share (0 to 1) of lr."""

    def __post_init__(self) -> None:
        _refuse_unless(self.name in get_args(ScheduleName), "name", self.name, ", ".join(get_args(ScheduleName)), _S)
        _refuse_unless(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more", _S)
        _refuse_unless(0 <= self.warmup_share < 1, "warmup_share", self.warmup_share, "from 0 to below 1", _S)
        _refuse_unless(0 <= self.final_share <= 1, "final_share", self.final_share, "from 0 to 1", _S)
        if self.warmup_steps and self.warmup_share:
            raise ConfigError("Give --model.schedule.warmup_steps or --model.schedule.warmup_share, not both.")


_S = "--model.schedule"


def _refuse_unless(good: bool, field: str, given: object, allowed: str, prefix: str = "--model.optimizer") -> None:
    if not good:
        raise ConfigError(f"{prefix}.{field} must be {allowed}, and {given!r} was given.")
