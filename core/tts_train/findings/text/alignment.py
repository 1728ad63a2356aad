"""Place the sounds of texts in a clip, and tell how well each text fits: exact, for many texts of one clip at a time.

A text is a line of states, three for each sound, with a pause that may be left out between words. The best way through
them is found by Viterbi's method over all states, without a beam.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tts_train.findings.text.acoustics import PARTS, SOUNDS, SoundScores
from tts_train.sound import Floats

Sounds: TypeAlias = "tuple[str, ...]"
"""Sounds of a word; ``R/D`` is whichever of the two fits better, ``*`` is any."""
Spoken: TypeAlias = "Sequence[tuple[str, Sounds]]"
"""Words of a text, each with its sounds."""

ANY = "*"
_PAUSE = -1
# Some sound always fits; a right one is 1.5 nats below the best, so any sound must not be free.
_ANY_COST = np.float32(1.0)
# Finite: the difference of two infinities would be no number.
_NEVER = np.float32(-1e9)
_INDEX = {name: number for number, name in enumerate(SOUNDS)}


@dataclass(frozen=True)
class StateLine:
    """A text as a line of states."""

    keys: tuple[tuple[str, int], ...]
    """Sound and part of each state; a pause has no name."""
    word: NDArray[np.int64]
    """Which word each state belongs to; -1 is a pause."""
    sound: NDArray[np.int64]
    """Which sound of the text each state belongs to; -1 is a pause."""
    skips: NDArray[np.bool_]
    """States that may follow the last but one state: the pause before them is left out."""

    @classmethod
    def of(cls, spoken: Spoken) -> StateLine:
        """Return the line of a text."""
        # A pause stands in front, too: its own best sum is what a clip that begins with silence needs.
        keys, word, sound, skips, count = [("", 0)], [_PAUSE], [_PAUSE], [False], 0
        for number, (_, sounds) in enumerate(spoken):
            for place, name in enumerate(sounds):
                keys += [(name, part) for part in range(PARTS)]
                word += [number] * PARTS
                sound += [count] * PARTS
                # Only the first part of a word has a pause before it.
                skips += [place == 0, False, False]
                count += 1
            keys, word, sound, skips = [*keys, ("", 0)], [*word, _PAUSE], [*sound, _PAUSE], [*skips, False]
        return cls(tuple(keys), np.array(word), np.array(sound), np.array(skips))


@dataclass(frozen=True)
class Placed:
    """Where a text lies in a clip."""

    line: StateLine
    state: NDArray[np.int64]
    """(frames,) of the line."""
    fit: Floats
    """(frames,) nats below the best sound of the moment."""

    @property
    def word(self) -> NDArray[np.int64]:
        """(frames,) which word is said; -1 in pauses."""
        return self.line.word[self.state]

    @property
    def sound(self) -> NDArray[np.int64]:
        """(frames,) which sound of the text is said; -1 in pauses."""
        return self.line.sound[self.state]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(frames,) whether a sound is said that is not any sound."""
        names = np.array([name not in ("", ANY) for name, _ in self.line.keys])
        return names[self.state]

    def mean_fit(self) -> float | None:
        """Return the mean over frames of speech, in nats; None where no sound is known."""
        known = self.known
        return float(self.fit[known].mean()) if known.any() else None


def totals(scores: SoundScores, texts: Sequence[Spoken]) -> NDArray[np.float64]:
    """Return how well each text fits the clip, (texts,), in nats over all frames."""
    lines = [StateLine.of(text) for text in texts]
    states, emitted = _states(scores, lines, scores.silence)
    reached, _ = _forward(states, emitted, lines, keep=False)
    return _ends(reached, lines)[1].astype(np.float64)


def place(scores: SoundScores, text: Spoken, *, other: float | None = None) -> Placed:
    """Place a text in a clip.

    Args:
        scores: of the clip.
        text: what is said.
        other: nats a frame that anything said besides the text costs, where words stand apart; None: only pauses do.
    """
    line = StateLine.of(text)
    # One state for both, told apart afterwards by which is higher: two would need a way round each other.
    pause = scores.silence if other is None else np.maximum(scores.silence, scores.speech - np.float32(other))
    states, emitted = _states(scores, [line], pause)
    reached, came = _forward(states, emitted, [line], keep=True)
    frames = len(scores)
    path = np.zeros(frames, dtype=np.int64)
    path[-1] = _ends(reached, [line])[0][0]
    assert came is not None
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = path[frame] - came[frame, 0, path[frame]]
    return Placed(line, path, emitted[np.arange(frames), states[0, path]])


def _states(scores: SoundScores, lines: Sequence[StateLine], pause: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the column of every state, (lines, states), and the columns, (frames, columns), one of padding last."""
    # Texts of one clip share most of their sounds, so that a column is made once for all of them.
    keys = sorted({key for line in lines for key in line.keys})
    number = {key: place for place, key in enumerate(keys)}
    columns = [_column(scores, key, pause) for key in keys]
    states = np.full((len(lines), max(len(line.keys) for line in lines)), len(keys), dtype=np.int64)
    for row, line in zip(states, lines, strict=True):
        row[: len(line.keys)] = [number[key] for key in line.keys]
    return states, np.stack([*columns, np.full(len(scores), _NEVER)], axis=1)


def _column(scores: SoundScores, key: tuple[str, int], pause: Floats) -> Floats:
    name, part = key
    if not name:
        return pause
    if name == ANY:
        return np.asarray(scores.sounds[:, :, part].max(axis=1) - _ANY_COST)
    return np.asarray(scores.sounds[:, [_INDEX[one] for one in name.split("/")], part].max(axis=1))


def _forward(
    states: NDArray[np.int64], emitted: Floats, lines: Sequence[StateLine], *, keep: bool
) -> tuple[Floats, NDArray[np.int8] | None]:
    """Return the best sum to every state at the last frame, (lines, 2 + states), and how far back each came from."""
    count, width = states.shape
    skips = np.full((count, width), _NEVER, dtype=np.float32)
    for row, line in zip(skips, lines, strict=True):
        row[: len(line.skips)][line.skips] = 0
    # Two columns in front: every state has a last and a last but one.
    reached = np.full((count, width + 2), _NEVER, dtype=np.float32)
    reached[:, 2:4] = emitted[0, states[:, :2]]
    # Bytes: of a minute with a thousand letters this is a hundred megabytes otherwise.
    came = np.zeros((len(emitted), count, width), dtype=np.int8) if keep else None
    for frame in range(1, len(emitted)):
        stay, step, skip = reached[:, 2:], reached[:, 1:-1], reached[:, :-2] + skips
        best = np.maximum(np.maximum(stay, step), skip)
        if came is not None:
            # Of equal ways the one that stays, so that the same clip is cut the same way on every machine.
            came[frame] = np.where(best == stay, 0, np.where(best == step, 1, 2))
        reached[:, 2:] = best + emitted[frame, states]
    return reached, came


def _ends(reached: Floats, lines: Sequence[StateLine]) -> tuple[NDArray[np.int64], Floats]:
    """Return the state that each line ends in, the last pause or the last sound, and its sum."""
    last = np.array([len(line.keys) - 1 for line in lines])
    rows = np.arange(len(lines))
    end = np.where(reached[rows, last + 2] >= reached[rows, last + 1], last, last - 1)
    return end, reached[rows, end + 2]
