"""The ids of a language model that speaks codec tokens: text, control tokens, a block of ids a slot; read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tts_train.errors import DataError

if TYPE_CHECKING:
    import torch


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
        # What comes behind the end is not speech, whatever ids it has.
        if self.ended or token == self.layout.end_of_speech:
            self.ended = True
        elif slot < 0:
            self.not_audio += 1
        # Slots are said in order, so the one due is as many as were read.
        elif slot == len(self._begun):
            self._begun.append(token)
        else:
            self.wrong_slot += 1
            self.close()
            # The id that did not fit may begin the next frame: one slip costs one frame.
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


Ids: TypeAlias = "NDArray[np.int64]"
Levels: TypeAlias = "tuple[NDArray[np.int64], ...]"
"""Codes of each codebook, coarse to fine: ``level_rates[n]`` a frame, each in [0, codebook_size)."""

Token = TypeVar("Token", int, "NDArray[np.int64]", "torch.Tensor")
"""One id or many."""

IGNORED_KIND, TEXT_KIND, CONTROL_KIND, AUDIO_KIND = -1, 0, 1, 2
"""What :meth:`TokenLayout.kind_of` answers."""


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """How text and codes share one vocabulary.

    A frame is ``len(slot_levels)`` tokens. Slot ``s`` has the ids from ``audio_base + s * codebook_size`` on, one for
    each code. With one codebook and one code a frame, that is one block of ids.
    """

    vocab_size: int
    """Rows of the output matrix."""
    text_tokens: int
    """Ids below this one are text; from it on they are control tokens, or audio."""
    added_base: int
    """The first of the ids that were added to the text model's vocabulary: control tokens, then audio."""
    audio_base: int
    """Id of code 0 in slot 0."""
    codebook_size: int
    """Codes of each codebook."""
    slot_levels: tuple[int, ...] = (0,)
    """The codebook that each slot of a frame belongs to."""
    sample_rate: int
    """Of the codec's sound, in Hz."""
    frame_samples: int
    """Samples that a frame stands for."""
    start_of_speech: int
    """The last id of a prompt: audio follows."""
    end_of_speech: int
    """Generation stops here; it stands where a frame could begin."""
    begin_of_text: int
    """Before every text."""
    pad: int
    """Fills batches."""
    text_pad: int
    """The text model's own padding, also found at the ends of rows that were made elsewhere."""
    end_of_turn: int
    """The text model's own stop token."""
    end_of_row: int
    """The last id of a training row: that after the end of speech, or the end of speech itself."""
    start_of_row: int | None = None
    """The first id of a row, where it is not :attr:`begin_of_text`."""
    start_of_answer: int | None = None
    """In rows of text only, the id after which the answer follows; None where the model has no such rows."""

    def __post_init__(self) -> None:
        if self.audio_end > self.vocab_size:
            raise ValueError(f"Audio ids end at {self.audio_end}, beyond the vocabulary of {self.vocab_size}.")
        if not self.added_base <= self.end_of_speech < self.vocab_size:
            raise ValueError(f"end_of_speech {self.end_of_speech} must be one of the ids from {self.added_base} on.")
        if sorted(set(self.slot_levels)) != list(range(len(self.level_rates))):
            raise ValueError(f"slot_levels must name every codebook from 0 on, not {self.slot_levels}.")

    @property
    def once(self) -> tuple[int, ...]:
        """Ids that may begin or end a row once; several of them there are a fault and no padding."""
        starts = (self.begin_of_text, self.start_of_row, self.start_of_speech, self.end_of_speech)
        return tuple(each for each in starts if each is not None)

    @property
    def slots(self) -> int:
        """Tokens in a frame."""
        return len(self.slot_levels)

    @cached_property
    def level_rates(self) -> tuple[int, ...]:
        """Codes a frame in each codebook."""
        return tuple(self.slot_levels.count(level) for level in range(max(self.slot_levels) + 1))

    @property
    def audio_end(self) -> int:
        """One past the last audio id."""
        return self.audio_base + self.slots * self.codebook_size

    @property
    def tokens_per_second(self) -> float:
        """Audio ids of a second of sound."""
        return self.slots * self.sample_rate / self.frame_samples

    @property
    def control_place(self) -> int:
        """What :meth:`place_of` answers for control tokens."""
        return self.slots

    @property
    def other_place(self) -> int:
        """What :meth:`place_of` answers for text and everything else."""
        return self.slots + 1

    @property
    def places(self) -> int:
        """Number of places that :meth:`place_of` tells apart."""
        return self.slots + 2

    # --- one id or many ---------------------------------------------------------------------------------------------

    def slot_of(self, token: Token) -> Token:
        """Return the slot of an audio id and -1 for any other; takes an int, an array or a tensor."""
        # In arithmetic alone, so that one formula serves a number, an array and a tensor on a card.
        inside = (token >= self.audio_base) & (token < self.audio_end)
        return inside * ((token - self.audio_base) // self.codebook_size + 1) - 1

    def place_of(self, token: Token) -> Token:
        """Return where an id may stand: in a slot, at :attr:`control_place` or, all others, at :attr:`other_place`.

        The end of speech stands where a frame could begin, so its place is slot 0; the other added ids before the
        audio are the control tokens. Takes an int, an array or a tensor.
        """
        slot = self.slot_of(token)
        control = (token >= self.added_base) & (token < self.audio_base)
        # Products of truth values in place of where(), which each kind of array spells its own way.
        elsewhere = self.other_place - control * (self.other_place - self.control_place)
        place: Token = ((slot >= 0) * slot + (slot < 0) * elsewhere) * (token != self.end_of_speech)
        return place

    def kind_of(self, token: Token) -> Token:
        """Return AUDIO_KIND, CONTROL_KIND, TEXT_KIND or, below zero, IGNORED_KIND; an int, an array or a tensor."""
        audio = (token >= self.audio_base) & (token < self.audio_end)
        control = (token >= self.text_tokens) & (audio == 0)
        kind: Token = AUDIO_KIND * audio + CONTROL_KIND * control + IGNORED_KIND * (token < 0)
        return kind

    @property
    def output_rows(self) -> int:
        """Rows of the language model's output matrix."""
        return self.vocab_size

    # --- positions in a sequence ------------------------------------------------------------------------------------

    @property
    def frame_positions(self) -> int:
        """Positions of a network's sequence that a frame takes."""
        return self.slots

    def starts(self, ids: ArrayLike) -> Ids:
        """Return the index (positions,) in ``ids`` of the first id at each position of a network's sequence."""
        return np.arange(np.asarray(ids).size)

    def room(self, prompt: ArrayLike, positions: int) -> int:
        """Return how many ids of sound fit behind a prompt in so many positions."""
        return (positions - len(self.starts(prompt))) * self.slots // self.frame_positions

    # --- codes and ids ----------------------------------------------------------------------------------------------

    def codes_to_tokens(self, levels: Sequence[ArrayLike]) -> Ids:
        """Interleave the codes of all codebooks into audio ids, frame after frame.

        Raises:
            DataError: if the levels do not fit together or a code is outside [0, codebook_size).
        """
        arrays = [np.asarray(level, dtype=np.int64).reshape(-1) for level in levels]
        sizes = [array.size for array in arrays]
        frames = sizes[0] // self.level_rates[0] if sizes else 0
        if sizes != [frames * rate for rate in self.level_rates]:
            # Sizes as they must be to each other, as no one knows the number of frames that was meant.
            wanted = ", ".join(f"{rate}n" if rate > 1 else "n" for rate in self.level_rates)
            wanted = " and ".join(wanted.rsplit(", ", 1))
            raise DataError(f"The codebooks must have {wanted} codes, and these have {sizes}.")
        # One table for all codebooks: interleaving is then assignment by columns.
        codes = np.empty((frames, self.slots), dtype=np.int64)
        for array, slots, rate in zip(arrays, self._slots_of_level, self.level_rates, strict=True):
            codes[:, slots] = array.reshape(frames, rate)
        bad = codes[(codes < 0) | (codes >= self.codebook_size)]
        if bad.size:
            raise DataError(f"Codes lie in [0, {self.codebook_size}), and {bad.size} do not, the first being {bad[0]}.")
        return (codes + self._offsets).reshape(-1)

    def tokens_to_codes(self, ids: ArrayLike) -> Levels:
        """Split audio ids into the codes of each codebook; the exact inverse of :meth:`codes_to_tokens`.

        Raises:
            DataError: if an id is no audio id, is in the wrong slot, or the last frame is not whole.
        """
        codes = self.in_frames(ids) - self._offsets
        wrong = np.argwhere((codes < 0) | (codes >= self.codebook_size))
        if wrong.size:
            frame, slot = (int(i) for i in wrong[0])
            token = int(codes[frame, slot] + self._offsets[slot])
            found = f"an audio id of slot {self.slot_of(token)}" if self.slot_of(token) >= 0 else "no audio id"
            place = f"Id {token} at position {frame * self.slots + slot} is {found}, and slot {slot} is due there"
            raise DataError(
                f"{place} ({len(wrong)} of {codes.size} ids are wrong). For generated ids use read_generated."
            )
        return tuple(codes[:, slots].reshape(-1) for slots in self._slots_of_level)

    def in_frames(self, ids: ArrayLike) -> Ids:
        """Return audio ids as (frames, slots).

        Raises:
            DataError: if the last frame is not whole.
        """
        flat = np.asarray(ids, dtype=np.int64).reshape(-1)
        if flat.size % self.slots:
            left = flat.size % self.slots
            raise DataError(f"Audio ids come in frames of {self.slots}, and {flat.size} ids leave {left} over.")
        return flat.reshape(-1, self.slots)

    def drop_repeated_frames(self, ids: ArrayLike) -> tuple[Ids, int]:
        """Drop each frame whose first token equals that of the last frame kept.

        Returns the ids that are left and the number of frames dropped.
        """
        frames = self.in_frames(ids)
        # A dropped frame starts like the last one kept, so comparing with the frame before comes to the same.
        keep = np.ones(len(frames), dtype=bool)
        keep[1:] = frames[1:, 0] != frames[:-1, 0]
        return frames[keep].reshape(-1), int((~keep).sum())

    def read_generated(self, ids: Iterable[int]) -> FramesRead:
        """Read a model's output from its last start of speech, if it has one, up to the end of speech.

        What does not fit is counted, never kept; :class:`FrameReader` has the rules.
        """
        tokens = [int(token) for token in ids]
        # The last one: a prompt with a reference has several.
        starts = [place for place, token in enumerate(tokens) if token == self.start_of_speech]
        reader = FrameReader(self)
        said = tokens[starts[-1] + 1 if starts else 0 :]
        frames = [frame for token in said if (frame := reader.push(token)) is not None]
        reader.close()
        codes = self.tokens_to_codes([token for frame in frames for token in frame])
        return FramesRead(codes, len(frames), reader.wrong_slot, reader.not_audio, reader.incomplete, reader.ended)

    @cached_property
    def _offsets(self) -> Ids:
        return self.audio_base + self.codebook_size * np.arange(self.slots)

    @cached_property
    def _slots_of_level(self) -> tuple[list[int], ...]:
        levels = range(len(self.level_rates))
        return tuple([slot for slot in range(self.slots) if self.slot_levels[slot] == level] for level in levels)
