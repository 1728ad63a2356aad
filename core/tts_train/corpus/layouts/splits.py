"""Parts of a data set called train, validation or test: test data that trains a model is lost as test data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from logging import getLogger
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

from tts_train.corpus.layouts.base import RawRow
from tts_train.errors import DataError

Part: TypeAlias = "Literal['train', 'other']"

_log = getLogger(__name__)
_TRAIN = frozenset({"train", "training"})
_OTHER = frozenset({"validation", "valid", "val", "dev", "development", "test", "testing", "eval", "evaluation"})
_WORD = re.compile(r"[a-z]+")


@lru_cache(maxsize=4096)
def part_of(name: str) -> Part | None:
    """Tell by a name of a file, a folder or a split which part it is; None if it says nothing of the kind."""
    # Whole words: a folder called contest holds no test data.
    words = set(_WORD.findall(name.lower()))
    return "train" if words & _TRAIN else "other" if words & _OTHER else None


def part_folders(root: Path) -> list[Path]:
    """Return the folders that may hold a table each: those of ``root``, and those of its ``data``, as on the hub."""
    inner = root / "data"
    places = [*root.iterdir(), *(inner.iterdir() if inner.is_dir() else ())]
    return sorted(place for place in places if place.is_dir() and not place.name.startswith("."))


def training_part(files: Sequence[Path], root: Path) -> list[Path]:
    """Leave out the files that hold validation or test data by their name or by that of a folder below ``root``.

    Raises:
        DataError: if nothing else is there; it names what to give.
    """
    parts = {file: _part_of_path(file.relative_to(root).as_posix()) for file in files}
    others = [file for file in files if parts[file] == "other"]
    if not others:
        return list(files)
    kept = [file for file in files if parts[file] != "other"]
    if not kept:
        raise no_training_part(root, others)
    warn_left_out(f"{len(kept)} files", [str(file) for file in others])
    return kept


def no_training_part(root: Path, others: Sequence[Path]) -> DataError:
    """Say that a folder holds no data to train on, and what to name to read the others all the same."""
    first = others[0] if others[0].is_dir() or others[0].parent == root else others[0].parent
    names = ", ".join(sorted({other.relative_to(root).parts[0] for other in others})[:8])
    return DataError(f"{root} holds only {names}, and no train split. To read one all the same, name it: {first}")


def warn_left_out(read: str, others: Sequence[str]) -> None:
    """Say what of a data set is not read."""
    more = f" and {len(others) - 8} more" if len(others) > 8 else ""
    _log.warning("Reading %s of the train split; not reading %s%s", read, ", ".join(others[:8]), more)


def part_of_audio(name: str) -> Part | None:
    """Tell by the first folder of a recording's path, relative to the corpus, which part it belongs to."""
    first, slash, _ = name.replace("\\", "/").removeprefix("./").partition("/")
    # Only a plain name: a recording of another machine has other folders in front.
    plain = first.lower() in _TRAIN | _OTHER
    return part_of(first) if slash and plain else None


def split_of(raw: RawRow) -> str:
    """Return a row's part of the data set: as its column says, or by the first folder of its recording."""
    if raw.split and part_of(raw.split):
        return raw.split
    first = raw.audio.replace("\\", "/").removeprefix("./").partition("/")[0] if isinstance(raw.audio, str) else ""
    return first if isinstance(raw.audio, str) and part_of_audio(raw.audio) else ""


def _part_of_path(path: str) -> Part | None:
    parts = [part_of(name) for name in PurePosixPath(path).with_suffix("").parts]
    # The innermost name counts: train/test.csv is test data.
    return next((part for part in reversed(parts) if part), None)
