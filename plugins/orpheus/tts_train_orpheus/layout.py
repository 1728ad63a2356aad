"""Orpheus's token ids and its frame of seven slots; no other module knows either."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tts_train.errors import DataError

if TYPE_CHECKING:
    import torch

Ids: TypeAlias = "NDArray[np.int64]"
Levels: TypeAlias = "tuple[NDArray[np.int64], ...]"
"""SNAC codes, coarse to fine: 1, 2 and 4 a frame, each in [0, CODEBOOK_SIZE)."""

Token = TypeVar("Token", int, "NDArray[np.int64]", "torch.Tensor")
"""One id or many."""

TEXT_TOKENS = 128000
"""Ids below this one are Llama-3 text; from it on they are control tokens, then audio."""
BEGIN_OF_TEXT = 128000
TEXT_PAD = 128004
"""``<|finetune_right_pad_id|>``"""
END_OF_TURN = 128009
"""``<|eot_id|>``"""

CUSTOM_BASE = 128256
"""Id of ``<custom_token_0>``."""
CUSTOM_TOKENS = 28683
START_OF_SPEECH = 128257
END_OF_SPEECH = 128258
"""Generation stops here."""
START_OF_HUMAN = 128259
END_OF_HUMAN = 128260
START_OF_AI = 128261
END_OF_AI = 128262
PAD = 128263
START_OF_SYSTEM = 128264
END_OF_SYSTEM = 128265
AUDIO_BASE = 128266
"""Id of code 0 in slot 0."""
AUDIO_MARK = 156939
"""``<|audio|>``, the one token that the pretrained checkpoint has no row for."""
VOCAB_SIZE = 156940

SLOTS = 7
"""Tokens in a frame."""
CODEBOOK_SIZE = 4096
AUDIO_END = AUDIO_BASE + SLOTS * CODEBOOK_SIZE
"""One past the last audio id."""
LEVEL_RATES = (1, 2, 4)
"""Codes a frame in each level."""
SLOT_LEVELS = (0, 1, 2, 2, 1, 2, 2)
"""The level that each slot of a frame belongs to."""
CONTROL_PLACE, OTHER_PLACE = SLOTS, SLOTS + 1
PLACES = SLOTS + 2
"""Number of places that ``place_of`` tells apart."""

SAMPLE_RATE = 24000
FRAME_SAMPLES = 2048
TOKENS_PER_SECOND = SLOTS * SAMPLE_RATE / FRAME_SAMPLES

IGNORED_KIND, TEXT_KIND, CONTROL_KIND, AUDIO_KIND = -1, 0, 1, 2
"""What ``kind_of`` answers."""

_OFFSETS = AUDIO_BASE + CODEBOOK_SIZE * np.arange(SLOTS)
_SLOTS_OF_LEVEL = tuple([s for s in range(SLOTS) if SLOT_LEVELS[s] == level] for level in range(len(LEVEL_RATES)))


def codes_to_tokens(levels: Sequence[ArrayLike]) -> Ids:
    """Interleave SNAC levels of n, 2n and 4n codes into 7n audio ids.

    Raises:
        DataError: if the levels do not fit together or a code is outside [0, 4096).
    """
    arrays = [np.asarray(level, dtype=np.int64).reshape(-1) for level in levels]
    sizes = [array.size for array in arrays]
    frames = sizes[0] if sizes else 0
    if sizes != [frames * rate for rate in LEVEL_RATES]:
        raise DataError(f"SNAC levels must have n, 2n and 4n codes, and these have {sizes}.")
    codes = np.empty((frames, SLOTS), dtype=np.int64)
    for array, slots, rate in zip(arrays, _SLOTS_OF_LEVEL, LEVEL_RATES, strict=True):
        codes[:, slots] = array.reshape(frames, rate)
    bad = codes[(codes < 0) | (codes >= CODEBOOK_SIZE)]
    if bad.size:
        raise DataError(f"SNAC codes lie in [0, {CODEBOOK_SIZE}), and {bad.size} do not, the first being {bad[0]}.")
    return (codes + _OFFSETS).reshape(-1)


def tokens_to_codes(ids: ArrayLike) -> Levels:
    """Split 7n audio ids into SNAC levels of n, 2n and 4n codes; the exact inverse of ``codes_to_tokens``.

    Raises:
        DataError: if an id is no audio id, is in the wrong slot, or the last frame is not whole.
    """
    codes = _frames(ids) - _OFFSETS
    wrong = np.argwhere((codes < 0) | (codes >= CODEBOOK_SIZE))
    if wrong.size:
        frame, slot = (int(i) for i in wrong[0])
        token = int(codes[frame, slot] + _OFFSETS[slot])
        found = f"an audio id of slot {slot_of(token)}" if slot_of(token) >= 0 else "no audio id"
        place = f"Id {token} at position {frame * SLOTS + slot} is {found}, and slot {slot} is due there"
        raise DataError(f"{place} ({len(wrong)} of {codes.size} ids are wrong). For generated ids use read_generated.")
    return tuple(codes[:, slots].reshape(-1) for slots in _SLOTS_OF_LEVEL)


def drop_repeated_frames(ids: ArrayLike) -> tuple[Ids, int]:
    """Drop each frame whose first token equals that of the last frame kept, as the released models were trained.

    Held vowels and pauses lose 85.3 ms a frame dropped. Returns the ids that are left and the number of frames dropped.
    """
    frames = _frames(ids)
    # A dropped frame starts like the last one kept, so comparing with the frame before comes to the same.
    keep = np.ones(len(frames), dtype=bool)
    keep[1:] = frames[1:, 0] != frames[:-1, 0]
    return frames[keep].reshape(-1), int((~keep).sum())


def slot_of(token: Token) -> Token:
    """Return the slot (0 to 6) of an audio id and -1 for any other; takes an int, an array or a tensor."""
    inside = (token >= AUDIO_BASE) & (token < AUDIO_END)
    return inside * ((token - AUDIO_BASE) // CODEBOOK_SIZE + 1) - 1


def place_of(token: Token) -> Token:
    """Return where an id may stand: in a slot (0 to 6), at a CONTROL_PLACE or, all others, at an OTHER_PLACE.

    The end of speech stands where a frame could begin, so its place is slot 0; the other added ids before the audio
    are the control tokens. Takes an int, an array or a tensor.
    """
    slot = slot_of(token)
    control = (token >= CUSTOM_BASE) & (token < AUDIO_BASE)
    elsewhere = OTHER_PLACE - control * (OTHER_PLACE - CONTROL_PLACE)
    place: Token = ((slot >= 0) * slot + (slot < 0) * elsewhere) * (token != END_OF_SPEECH)
    return place


def kind_of(token: Token) -> Token:
    """Return AUDIO_KIND, CONTROL_KIND, TEXT_KIND or, below zero, IGNORED_KIND; takes an int, an array or a tensor."""
    audio = (token >= AUDIO_BASE) & (token < AUDIO_END)
    control = (token >= TEXT_TOKENS) & (audio == 0)
    kind: Token = AUDIO_KIND * audio + CONTROL_KIND * control + IGNORED_KIND * (token < 0)
    return kind


@dataclass
class FrameReader:
    """Takes generated ids one at a time and gives back whole frames, counting what does not fit.

    An id that is no audio id is passed over. An audio id in another slot than the one due ends the frame that was
    begun, and reading goes on at the next id of slot 0.
    """

    wrong_slot: int = 0
    """Audio ids in another slot than the one due."""
    not_audio: int = 0
    """Ids that are no audio ids."""
    incomplete: int = 0
    """Frames begun and given up."""
    ended: bool = False
    """Whether END_OF_SPEECH came; ids after it are not looked at."""
    _begun: list[int] = field(default_factory=list)

    def push(self, token: int) -> tuple[int, ...] | None:
        """Take one id; return the seven ids of a frame when this one completes it."""
        slot = slot_of(token)
        if self.ended or token == END_OF_SPEECH:
            self.ended = True
        elif slot < 0:
            self.not_audio += 1
        elif slot == len(self._begun):
            self._begun.append(token)
        else:
            self.wrong_slot += 1
            self.close()
            self._begun = [token] if slot == 0 else []
        return self._take() if len(self._begun) == SLOTS else None

    def close(self) -> None:
        """Give up the frame that was begun, if there is one; call it when no more ids come."""
        self.incomplete += bool(self._begun)
        self._begun = []

    def _take(self) -> tuple[int, ...]:
        frame, self._begun = tuple(self._begun), []
        return frame


@dataclass(frozen=True)
class Generated:
    """What a model's output holds: its whole frames, and how much of it was no frame."""

    codes: Levels
    wrong_slot: int
    not_audio: int
    incomplete: int
    ended: bool

    @property
    def frames(self) -> int:
        """Whole frames, 2048 samples each."""
        return len(self.codes[0])

    @property
    def errors(self) -> int:
        """Faults of every kind; 0 for a clean output."""
        return self.wrong_slot + self.not_audio + self.incomplete

    def __str__(self) -> str:
        faults = f"{self.wrong_slot} ids in the wrong slot, {self.not_audio} ids that are no audio"
        end = "ended by itself" if self.ended else "did not end"
        return f"{self.frames} frames, {faults}, {self.incomplete} unfinished frames, {end}"


def read_generated(ids: Iterable[int]) -> Generated:
    """Read a model's output from its last START_OF_SPEECH, if it has one, up to END_OF_SPEECH.

    What does not fit is counted, never kept; ``FrameReader`` has the rules.
    """
    tokens = [int(token) for token in ids]
    starts = [i for i, token in enumerate(tokens) if token == START_OF_SPEECH]
    reader = FrameReader()
    frames = [frame for token in tokens[starts[-1] + 1 if starts else 0 :] if (frame := reader.push(token)) is not None]
    reader.close()
    codes = tokens_to_codes([token for frame in frames for token in frame])
    return Generated(codes, reader.wrong_slot, reader.not_audio, reader.incomplete, reader.ended)


def _frames(ids: ArrayLike) -> Ids:
    flat = np.asarray(ids, dtype=np.int64).reshape(-1)
    if flat.size % SLOTS:
        raise DataError(f"Audio ids come in frames of {SLOTS}, and {flat.size} ids leave {flat.size % SLOTS} over.")
    return flat.reshape(-1, SLOTS)
