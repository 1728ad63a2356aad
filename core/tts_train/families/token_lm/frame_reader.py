"""What a model generated: whole frames, and a count of what was no frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tts_train.families.token_lm.layout import Levels, TokenLayout


@dataclass
class FrameReader:
    """Takes generated ids one at a time and gives back whole frames, counting what does not fit.

    An id that is no audio id is passed over. An audio id in another slot than the one due ends the frame that was
    begun, and reading goes on at the next id of slot 0.
    """

    layout: TokenLayout
    wrong_slot: int = 0
    """Audio ids in another slot than the one due."""
    not_audio: int = 0
    """Ids that are no audio ids."""
    incomplete: int = 0
    """Frames begun and given up."""
    ended: bool = False
    """Whether the end of speech came; ids after it are not looked at."""
    _begun: list[int] = field(default_factory=list)

    def push(self, token: int) -> tuple[int, ...] | None:
        """Take one id; return the ids of a frame when this one completes it."""
        slot = self.layout.slot_of(token)
        if self.ended or token == self.layout.end_of_speech:
            self.ended = True
        elif slot < 0:
            self.not_audio += 1
        elif slot == len(self._begun):
            self._begun.append(token)
        else:
            self.wrong_slot += 1
            self.close()
            self._begun = [token] if slot == 0 else []
        return self._take() if len(self._begun) == self.layout.slots else None

    def close(self) -> None:
        """Give up the frame that was begun, if there is one; call it when no more ids come."""
        self.incomplete += bool(self._begun)
        self._begun = []

    def _take(self) -> tuple[int, ...]:
        frame, self._begun = tuple(self._begun), []
        return frame


@dataclass(frozen=True)
class FramesRead:
    """What a model's output holds: its whole frames, and how much of it was no frame."""

    codes: Levels
    frames: int
    """Whole frames."""
    wrong_slot: int
    not_audio: int
    incomplete: int
    ended: bool

    @property
    def errors(self) -> int:
        """Faults of every kind; 0 for a clean output."""
        return self.wrong_slot + self.not_audio + self.incomplete

    def __str__(self) -> str:
        faults = f"{self.wrong_slot} ids in the wrong slot, {self.not_audio} ids that are no audio"
        end = "ended by itself" if self.ended else "did not end"
        return f"{self.frames} frames, {faults}, {self.incomplete} unfinished frames, {end}"
