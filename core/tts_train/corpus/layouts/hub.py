"""Data sets by their name on the hub, through the ``datasets`` library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tts_train.corpus.layouts.base import Layout, RawRow
from tts_train.corpus.layouts.columnar import read_row, require_columns
from tts_train.corpus.rows.utterance import Rejected, TokenRow
from tts_train.errors import DataError, MissingExtraError

_NAME = re.compile(r"[\w.-]+/[\w.-]+(:\w+)?")


class Hub(Layout):
    """``owner/name``, or ``owner/name:split``; the train split by default. No code of the data set is run."""

    name = "hub"
    summary = "owner/name of a data set on the hub"
    # As in Parquet files: the rows hold the recordings.
    replayable = False

    @classmethod
    def detect(cls, path: Path) -> Hub | None:
        """Return the layout if ``path`` has it."""
        # A folder of such a name here is meant before a data set on the hub.
        if path.exists() or not _NAME.fullmatch(path.as_posix()):
            return None
        return cls(path, _cache_root())

    def raws(self) -> Iterator[RawRow | TokenRow | Rejected]:
        """Yield every row in order."""
        name, _, split = self.path.as_posix().partition(":")
        rows = _load(name, split or "train")
        columns = require_columns(self, list(rows.column_names), name)
        for number, row in enumerate(rows.select_columns(list(columns.values())), start=1):
            yield read_row(row, columns, f"{name}:{number}")


def _load(name: str, split: str) -> Any:  # noqa: ANN401 - the library is not typed
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(f"Reading the data set {name} from the hub", "hub") from None
    try:
        rows = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise DataError(
            f"{name!r} is neither a file or folder here nor a data set that could be loaded from the hub: {first} "
            f"Check the spelling and the network, or download it and name the folder."
        ) from None
    for column, feature in rows.features.items():
        # Our own decoder reads the bytes: the library's needs torchcodec and FFmpeg.
        if isinstance(feature, datasets.Audio):
            rows = rows.cast_column(column, datasets.Audio(decode=False))
    return rows


def _cache_root() -> Path:
    """Audio that comes as a path lies in the library's cache, and must not lead out of it."""
    try:
        from huggingface_hub.constants import HF_HOME
    except ImportError:
        return Path.home() / ".cache" / "huggingface"
    return Path(HF_HOME)
