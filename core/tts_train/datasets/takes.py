"""Takes that ``tts-train sample`` drew: what was said, what was measured of it, and which of two is better."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts_train.datasets.split import split
from tts_train.datasets.store.parquet_rows import ParquetRows, damaged
from tts_train.errors import DataError
from tts_train.run.places import reachable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TAKES, ABOUT = "takes.parquet", "takes.json"
"""What ``sample`` leaves in its folder, besides sounds: a row a take, and how they were made."""
BEGUN = "begun.json"
"""What an unfinished set is drawn with."""
FORMAT, VERSION = "tts-train takes", 1
COLUMNS = {
    "text_id": "string",
    "take": "int32",
    "seed": "int64",
    "text": "string",
    "speaker": "string",
    "language": "string",
    "seconds": "double",
    "ended": "bool",
    "error": "string",
    "missed": "list<string>",
    "reward": "double",
    "sound": "string",
}
"""Columns of every set, with Arrow's name of their type; figures and the backend's own columns stand beside them.

``reward`` is null where a take cannot be judged, ``missed`` names the figures whose floor the take misses, ``sound`` is
the file of a take that was kept, relative to the folder.
"""
AGAIN = "Copy the folder again, or draw the takes into another one: tts-train sample RUN --texts FILE --out OTHER."
TOO_ALIKE = "the best take is not better than the worst by the margin"
_JUDGED = ("text_id", "ended", "error", "missed", "reward")


@dataclass(frozen=True, kw_only=True)
class TakePair:
    """Two takes of one text, of which the first is better."""

    text_id: str
    chosen: int
    """Row of the better one."""
    rejected: int
    """Row of the other one."""
    margin: float
    """Reward of the better one less that of the other."""


class TakeSet:
    """Takes by index, read when they are asked for.

    Args:
        path: A folder that ``tts-train sample`` wrote.
        backend: The backend that they must be of; None takes any.
        columns: What :meth:`row` returns; None is all.

    Raises:
        DataError: if there are none, they are not finished, damaged, or of another backend.
    """

    def __init__(self, path: Path | str, *, backend: str | None = None, columns: Sequence[str] | None = None) -> None:
        self.path = Path(path)
        self.about = read_about(self.path)
        if backend is not None and self.about["backend"] != backend:
            raise DataError(
                f"{path} holds takes of backend {self.about['backend']!r}, and those of {backend!r} are needed."
            )
        self.rows = ParquetRows([self.path / TAKES], columns=columns, advice=AGAIN)
        if len(self.rows) != self.about["takes"]:
            raise damaged(self.path / TAKES, f"it has {len(self.rows)} takes instead of {self.about['takes']}", AGAIN)
        self._check_columns()

    def _check_columns(self) -> None:
        for name, wanted in COLUMNS.items():
            found = str(self.rows.types.get(name, "missing")).replace("element: ", "").replace("item: ", "")
            if found != wanted:
                raise damaged(self.path / TAKES, f"its column {name} is {found} and not {wanted}", AGAIN)
        # A comparison with NaN is false, so that it would be the best and the worst at once.
        if None in self.column("text_id") or not all(map(math.isfinite, filter(None, self.column("reward")))):
            raise damaged(self.path / TAKES, "a take has no text_id, or a reward that is no number", AGAIN)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> dict[str, Any]:
        """Return one take by column name; lists of numbers come as numpy arrays."""
        return self.rows.row(index)

    def column(self, name: str) -> list[Any]:
        """Return one column of all takes."""
        return list(self.rows.column(name).to_pylist())

    def divide(self, rows: Sequence[int], share: float, *, seed: int) -> tuple[list[int], list[int]]:
        """Return (training, validation) as places among rows of takes; those of one text are on one side."""
        texts, speakers = self.column("text_id"), self.column("speaker")
        named = [speakers[row] for row in rows]
        return split([texts[row] for row in rows], share, speakers=named, seed=seed)

    def list_lengths(self, name: str) -> NDArray[np.int64]:
        """Return how many numbers each take has in a column of lists, (takes,); 0 where it is null."""
        return self.rows.list_lengths(name)

    @property
    def names(self) -> list[str]:
        """Columns that there are."""
        return self.rows.names

    @property
    def hash(self) -> str:
        """A hash of what was drawn and measured."""
        return str(self.about["hash"])

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of the data that the sampled model was trained on, as ``StageData.remember`` says it."""
        known = dict(self.about.get("data") or {})
        return {**known, "settings": reachable(known.get("settings", {}))} if known else {}

    @property
    def settings(self) -> dict[str, Any]:
        """How those data were prepared; empty where it is not known."""
        return dict(self.facts.get("settings", {}))

    def pairs(self, *, margin: float, per_text: int = 1) -> tuple[list[TakePair], Counter[str]]:
        """Return pairs of takes of a text, the best with the worst, then the next best with the next worst.

        Only a take that the model ended, that has no fault (``error``) and misses no floor is ever the better one.

        Args:
            margin: Least difference of their rewards.
            per_text: Most pairs of a text.

        Returns:
            The pairs, and of how many texts there is none, by reason.
        """
        judged = {name: self.column(name) for name in _JUDGED}
        texts: dict[str, list[int]] = defaultdict(list)
        for row, text_id in enumerate(judged["text_id"]):
            texts[text_id].append(row)
        found: list[TakePair] = []
        without: Counter[str] = Counter()
        for text_id, rows in texts.items():
            pairs, why = _pairs_of(text_id, rows, judged, margin, per_text)
            found += pairs
            without.update([why] if why else [])
        return found, without


def _pairs_of(
    text_id: str, rows: Sequence[int], judged: Mapping[str, Sequence[Any]], margin: float, per_text: int
) -> tuple[list[TakePair], str | None]:
    rewards = {row: float(judged["reward"][row]) for row in rows if judged["reward"][row] is not None}
    if len(rewards) < 2:
        return [], "fewer than two takes could be judged"
    # By the row where rewards are equal, so that the same set gives the same pairs.
    ranked = sorted(rewards, key=lambda row: (-rewards[row], row))
    whole = [row for row in ranked if judged["ended"][row] and not judged["missed"][row]]
    if not whole:
        return [], "no take ended by itself and reached every floor"
    fit = [row for row in whole if not judged["error"][row]]
    if not fit:
        return [], "every take that ended by itself and reached the floors has a fault (column error)"
    pairs: list[TakePair] = []
    used: set[int] = set()
    for better, worse in zip(fit, reversed(ranked), strict=False):
        gap = rewards[better] - rewards[worse]
        if len(pairs) == per_text or {better, worse} & used or better == worse or gap < margin or gap <= 0:
            break
        pairs.append(TakePair(text_id=text_id, chosen=better, rejected=worse, margin=gap))
        used |= {better, worse}
    return pairs, None if pairs else TOO_ALIKE


def is_begun(path: Path | str) -> bool:
    """Tell whether ``path`` is a folder of takes that ``tts-train sample`` has not finished."""
    return (Path(path) / BEGUN).is_file() and not is_takes(path)


def is_takes(path: Path | str) -> bool:
    """Tell whether ``path`` is a folder that ``tts-train sample`` finished."""
    return (Path(path) / ABOUT).is_file()


def read_about(path: Path) -> Mapping[str, Any]:
    """Return what a folder of takes says of itself.

    Raises:
        DataError: if it is none, or of a newer format than this version reads.
    """
    file = path / ABOUT
    if not file.is_file():
        raise DataError(
            f"{path} holds no finished takes (no {ABOUT} in it). Draw them: tts-train sample RUN --out {path}"
        )
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(file, error, AGAIN) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(about.get("version"), int):
        raise DataError(f"{file} does not describe takes. Draw them: tts-train sample RUN --out FOLDER")
    if about["version"] > VERSION:
        raise DataError(f"{file} is of format {about['version']} and this version reads {VERSION}. Update tts-train.")
    if missing := {"backend", "takes", "hash"} - set(about):
        raise damaged(file, f"it lacks {', '.join(sorted(missing))}", AGAIN)
    return about
