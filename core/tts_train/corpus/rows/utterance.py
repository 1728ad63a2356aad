"""The records a corpus is read into: an utterance, a tokenised row, and a row that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from os import fsencode
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording (or a stretch of one) with what is said in it."""

    id: str
    """16 hexadecimal digits; the same for the same audio file and stretch, different for any other."""
    audio: Path | bytes
    """A regular file inside the corpus, or the encoded file itself."""
    text: str
    """Cleaned: NFC, no control or invisible characters, at least one letter or digit."""
    speaker: str | None = None
    language: str | None = None
    """Lower case, as the corpus names it; ``jp``, ``kr`` and names such as ``English`` are read as codes."""
    start: float | None = None
    """Where the stretch begins, in seconds; None is the beginning of the file."""
    end: float | None = None
    """Where the stretch ends, in seconds; None is the end of the file."""
    origin: str = ""
    """Where the row stands, for people: ``metadata.csv:12``. Unique in its corpus."""
    warnings: tuple[str, ...] = ()
    """Names from :data:`tts_train.corpus.reasons.WARNINGS`."""
    split: str | None = None
    """Part of the data set as the corpus calls it; None where it says nothing of the kind."""
    near: tuple[str, ...] = ()
    """Texts of the rows around it, in their order, where the corpus is read for them; see ``around`` of a survey."""
    instruct: str | None = None
    """How it is spoken, in words, cleaned as the text is; None where the row says nothing of it."""
    reference: Path | bytes | None = None
    """A recording of the same speaker by which the voice is taken; where there is no such file, where it should be."""
    # compare=False: arrays are neither equal nor unequal, and have no hash.
    codes: NDArray[np.int64] | None = field(default=None, compare=False)
    """(frames, codebooks) of some codec, at least 0; None where the row has none.

    The recording of a row with codes need not be there: ``audio`` then says where it should be.
    """


# eq=False: comparing the arrays would give an array, which is neither true nor false.
@dataclass(frozen=True, slots=True, eq=False)
class TokenRow:
    """One row of a data set that is already tokenised."""

    id: str
    input_ids: NDArray[np.int64]
    """(tokens,), padding removed."""
    origin: str = ""
    labels: NDArray[np.int64] | None = None
    """(tokens,), -100 where no loss is taken; None if the data set has no such column."""


class RowRejected(Exception):
    """A row that cannot be used.

    Args:
        reason: a name that the core has or that :func:`tts_train.corpus.declare_reasons` was told.
        detail: what was found, and what is allowed.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that cannot be used, and why."""

    origin: str
    reason: str
    """A name from :data:`tts_train.corpus.reasons.REASONS`."""
    detail: str = ""


Row: TypeAlias = "Utterance | TokenRow | Rejected"


def utterance_id(name: str, start: float | None = None, end: float | None = None) -> str:
    """Return a stable id for a stretch of the audio file ``name`` (its path relative to the corpus, ``/`` between).

    The name is taken byte for byte, so that files which differ only in case, folder or Unicode form keep apart.
    """
    # 64 bits: that two of a million recordings get one id has a chance below 10^-7.
    digest = blake2b(fsencode(name), digest_size=8)
    if start is not None or end is not None:
        # No path holds a zero byte, so a name cannot run into the times behind it.
        digest.update(f"\0{start}\0{end}".encode())
    return digest.hexdigest()
