"""How the next id is drawn: options that need no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tts_train.errors import ConfigError

Constrain: TypeAlias = Literal["none", "audio", "slots"]
"""``none`` lets every id through; ``audio`` the added ones; ``slots`` the codes of the slot that is due, and the end of
speech between frames."""

HELD_TO: dict[str, Constrain] = {"full": "none", "audio": "audio", "slot": "slots"}
"""Which ids may come, by ``--model.head.softmax``: what a model was trained against."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next id is drawn."""

    temperature: float = 0.6
    """Below 1 sharpens the distribution; 0 takes the most likely id, which tends to loop."""
    top_p: float = 0.95
    """Draw from the smallest set of ids that has this much probability, above 0 to 1."""
    top_k: int = 0
    """Draw from this many most likely ids at most; 0 sets no limit."""
    repetition_penalty: float = 1.1
    """Makes ids that were used before, in prompt or output, less likely; 1 does nothing."""
    constrain: Constrain = "none"
    """Which ids may come."""

    def __post_init__(self) -> None:
        faults = [
            f"--temperature must be 0 or more, not {self.temperature}" if not self.temperature >= 0 else "",
            f"--top_p must be above 0 and at most 1, not {self.top_p}" if not 0 < self.top_p <= 1 else "",
            f"--top_k must be 0 or more, not {self.top_k}" if self.top_k < 0 else "",
            f"--repetition_penalty must be above 0, not {self.repetition_penalty}"
            if not self.repetition_penalty > 0
            else "",
            f"--constrain is none, audio or slots, not {self.constrain!r}"
            if self.constrain not in ("none", "audio", "slots")
            else "",
        ]
        if any(faults):
            raise ConfigError("; ".join(fault for fault in faults if fault) + ".")
