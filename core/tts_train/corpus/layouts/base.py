"""What a layout hands over: raw rows, which the builder turns into utterances or reasons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from tts_train.corpus.rows.columns import Asked, describe, match_columns
from tts_train.corpus.rows.utterance import Rejected, TokenRow

NAME_ONE = (
    "Name the one to read; where its recordings lie beside its folder, leave --corpus as it is and add "
    "--corpus_format LIST with one of these names."
)
"""What to do about a folder with several lists."""


class RawRow(NamedTuple):
    """One row as it stands in the corpus, not looked at yet."""

    origin: str
    audio: str | bytes
    """A name to look for, or the encoded file itself."""
    text: str
    speaker: str | None = None
    """None: the layout has no such column. Empty: it has, and this row left it out."""
    language: str | None = None
    start: float | None = None
    end: float | None = None
    base: str | None = None
    """Folder that the audio's name starts from; None is the root of the corpus."""
    split: str | None = None
    """Which part of the data set the row belongs to, as the corpus calls it."""
    instruct: str | None = None
    reference: str | bytes | None = None
    """A name to look for from ``base``, or the encoded file itself; None or empty where the row names none."""
    codes: object = None
    """What the row holds as codes, in whatever form; None where it holds none."""


class Layout(ABC):
    """A corpus in one layout.

    Args:
        path: what the user named.
        root: folder that holds all of the corpus.
    """

    name: ClassVar[str]
    """What ``--corpus_format`` calls it."""
    summary: ClassVar[str]
    """Its shape, for error messages."""
    replayable: ClassVar[bool] = True
    """Whether reading all rows twice is cheap."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self.root = root
        self.asked = Asked()
        """What ``--corpus_format`` says besides the layout's name."""
        self.taken: dict[str, str] = {}
        """Of each table that was read so far: its columns, as they were understood."""

    @classmethod
    @abstractmethod
    def detect(cls, path: Path) -> Layout | None:
        """Return the layout if ``path`` has it, else None.

        Raises:
            DataError: if it has it and cannot be read, for example for its encoding.
        """

    @abstractmethod
    def raws(self) -> Iterator[RawRow | TokenRow | Rejected]:
        """Yield every row in order; the same again at each call."""

    def match(self, names: Sequence[str], where: str) -> dict[str, str]:
        """Return meaning -> name for named columns, and note what they were taken for."""
        columns = match_columns(names, self.asked.names)
        # The first time has all names: later ones may be about the columns alone that are used.
        self.taken.setdefault(where, describe({name: meaning for meaning, name in columns.items()}, names))
        return columns

    def shown(self, file: Path) -> str:
        """The name of a corpus file in origins."""
        return file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.as_posix()
