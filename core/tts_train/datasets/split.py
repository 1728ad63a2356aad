"""The division of a set into training and validation rows, by a hash of each row's id."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import xxhash

from tts_train.errors import ConfigError

DEFAULT_SEED = 1234
"""Seed of a run that names none."""


def run_seed(seed_everything: bool | int | None) -> int:
    """Return the seed of a run's data for its ``--seed_everything``, of which ``true`` asks for any seed."""
    numbered = seed_everything is not None and not isinstance(seed_everything, bool)
    return int(seed_everything) if numbered else DEFAULT_SEED  # type: ignore[arg-type]


def split(
    ids: Sequence[str], share: float, *, speakers: Sequence[str | None] | None = None, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Return (training rows, validation rows) as ascending indices; no row is in both.

    A row is held out when the hash of its id falls below ``share``, so rows added later move no other row. Two
    guarantees go on top, and only the rows they pick may go back when a better candidate is added: every speaker
    with at least ``1 / share`` rows has a row held out, and so has the whole set when it has two rows or more. A
    speaker's last remaining training row is never held out, so that no voice is validated untrained.

    Args:
        ids: utterance ids; equal ids land on the same side.
        share: wanted share of held-out rows, 0 (none) up to but not including 1.
        speakers: a name for each row; None where there is none.
        seed: another seed gives another division.

    Raises:
        ConfigError: if ``share`` is outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ConfigError(f"--data.val_share is the share of rows kept for validation, 0 <= share < 1, not {share}.")
    places = [place(row_id, seed=seed) for row_id in ids]
    # Speaker by speaker, so that each is heard in validation and none has only validation.
    held: set[int] = set()
    if share > 0:
        for rows in _by_speaker(ids, speakers):
            held |= _hold(rows, places, share)
        if not held and len(set(places)) > 1:
            held = _all_at(min(places), range(len(ids)), places)
    return [row for row in range(len(ids)) if row not in held], sorted(held)


def place(row_id: str, *, seed: int = 0) -> float:
    """Return the hash of an id as a number in [0, 1); the same on every machine."""
    # A hash, not a draw: rows that are added later must not move others from one side to the other.
    return xxhash.xxh3_64_intdigest(row_id.encode("utf-8", "surrogatepass"), seed=seed & (2**64 - 1)) / 2**64


def _hold(rows: list[int], places: list[float], share: float) -> set[int]:
    held = {row for row in rows if places[row] < share}
    if not held and len(rows) * share >= 1:
        held = _all_at(min(places[row] for row in rows), rows, places)
    # The row farthest from being held out goes back, so that the voice has something to be trained on.
    if held and len(held) == len(rows):
        held -= _all_at(max(places[row] for row in rows), rows, places)
    return held


def _all_at(position: float, rows: Sequence[int], places: list[float]) -> set[int]:
    return {row for row in rows if places[row] == position}


def _by_speaker(ids: Sequence[str], speakers: Sequence[str | None] | None) -> list[list[int]]:
    if speakers is None:
        return [list(range(len(ids)))]
    groups: dict[str | None, list[int]] = defaultdict(list)
    for row, speaker in enumerate(speakers):
        groups[speaker].append(row)
    return list(groups.values())
