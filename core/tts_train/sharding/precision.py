"""Which ``--trainer.precision`` a machine and a strategy can do; what they cannot is refused with what they can."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from tts_train.errors import ConfigError
from tts_train.sharding.options import NAME

_SPELLINGS = {
    "16": "16-mixed",
    "bf16": "bf16-mixed",
    "32": "32-true",
    "64": "64-true",
}
_CPU = ("32-true", "bf16-mixed", "bf16-true", "64-true")
_APPLE = ("32-true", "bf16-mixed", "bf16-true")
_AMPERE = (8, 0)


def checked_precision(trainer: dict[str, Any]) -> dict[str, Any]:
    """Return the trainer's arguments as Lightning takes them, with a precision that this machine can do.

    Lightning itself would train ``16-mixed`` on a CPU as ``bf16-mixed``, and refuses a gradient scaler under sharding,
    which FSDP2 has no quarrel with.

    Args:
        trainer: the arguments of a ``Trainer``: ``precision``, ``accelerator``, ``plugins`` and ``strategy``.

    Raises:
        ConfigError: naming what the machine can do instead.
    """
    given = str(trainer.get("precision") or "32-true")
    precision = _SPELLINGS.get(given, given)
    on_card = _is_cuda(trainer.get("accelerator"))
    if precision.startswith("transformer-engine"):
        raise ConfigError(f"--trainer.precision {given} (8-bit floats) is not supported. Use bf16-mixed or bf16-true.")
    able: tuple[str, ...] = _CPU
    where = "a CPU"
    if on_card:
        able, where = _able(torch.cuda.get_device_capability()), f"a card like {torch.cuda.get_device_name()}"
    elif torch.backends.mps.is_available() and trainer.get("accelerator") in ("auto", "gpu", "mps", None):
        able, where = _APPLE, "Apple's GPU"
    if precision not in able:
        raise ConfigError(f"--trainer.precision {given} is not for {where}, which can do: {', '.join(able)}.")
    if precision == "16-mixed" and _is_ours(trainer.get("strategy")):
        scaled = MixedPrecision("16-mixed", "cuda")
        return {**trainer, "precision": None, "plugins": [*(trainer.get("plugins") or []), scaled]}
    return trainer


def _able(capability: tuple[int, int]) -> tuple[str, ...]:
    half = ("bf16-mixed", "bf16-true") if capability >= _AMPERE else ()
    return ("32-true", "16-mixed", *half, "64-true")


def _is_cuda(accelerator: object) -> bool:
    return torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda", None)


def _is_ours(strategy: object) -> bool:
    from tts_train.sharding.fsdp import FsdpStrategy

    return strategy == NAME or isinstance(strategy, FsdpStrategy)
