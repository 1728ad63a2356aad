"""What a backend says of preparing: how rows of a corpus become training rows, and what that depends on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from tts_train.errors import TTSTrainError
from tts_train.run.places import whole_paths

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from tts_train.corpus import Rejected, RowRejected, Utterance
    from tts_train.corpus.audio.read import Audio
    from tts_train.corpus.rows.utterance import TokenRow
    from tts_train.datasets.store.shard_store import ShardStore

    Input: TypeAlias = "Utterance | TokenRow"


@dataclass(frozen=True)
class Census:
    """A first look at a corpus: its usable rows and who speaks them."""

    rows: int
    tokenised: int
    speakers: Counter[str | None]
    languages: Counter[str | None]
    rejected: int = 0
    """Rows that the rules of rows refuse."""
    labelled: int = 0
    """Tokenised rows that say on which ids a loss is taken."""

    @property
    def named(self) -> int:
        """Speakers that have a name."""
        return sum(name is not None for name in self.speakers)


@dataclass(frozen=True)
class Clip:
    """A row of the corpus that was read."""

    row: Input
    text: Any
    """What :meth:`RowEncoder.read_text` made of its text."""
    audio: Audio | None
    """Its recording, mono at the encoder's rate; None for a row of token ids, and where its codes are taken."""
    reference: Audio | None = None
    """The reference that the row names, likewise; None where there is none or the encoder takes none."""
    seconds: float | None = None
    """How long it sounds, where no recording was read; None for token ids."""


class PreparedRows(ABC):
    """What a prepared set holds."""

    length_column: ClassVar[str]
    """The integer column that gives a row's length in the unit that batches are planned in."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What the rows are, for readers: ``"<backend>/<what>"``."""

    @property
    @abstractmethod
    def schema(self) -> pa.Schema:
        """Columns of a row; ``id``, ``language``, ``seconds`` and ``origin`` are among them."""

    @property
    def built_in(self) -> Sequence[str]:
        """Sources that are no paths, whatever lies in the present folder."""
        return ()

    def sources(self) -> Mapping[str, str]:
        """Return paths and names of networks that later commands need, by setting."""
        return {}

    def remembered(self) -> dict[str, Any]:
        """Return :meth:`sources`, and where relative paths among them lie: speaking may run in another folder."""
        # Both: the project may be moved as a whole, or the later command may run in another folder.
        return {**self.sources(), **whole_paths(self.sources(), names=self.built_in)}

    def store(self, folder: Path) -> ShardStore:
        """Return the shards of a prepared folder."""
        from tts_train.datasets.store.shard_store import ShardStore

        if self.length_column not in self.schema.names:
            raise TTSTrainError(
                f"{type(self).__qualname__}.length_column is {self.length_column!r}, which its schema does not have: "
                f"{', '.join(self.schema.names)}."
            )
        return ShardStore(folder, self.schema, kind=self.kind, length_column=self.length_column)


@dataclass(frozen=True, kw_only=True)
class RowEncoder(PreparedRows):
    """Makes training rows of the rows of a corpus.

    A frozen dataclass: it is sent to the processes of ``prepare``, so its fields say where networks are and hold none.
    """

    together: ClassVar[float] = 300.0
    """Seconds of sound that are read before they are encoded: enough clips of like length for full batches."""
    takes_ids: ClassVar[bool] = False
    """Whether rows that are token ids already are taken."""
    counted: ClassVar[Sequence[str]] = ()
    """Figures of a row, columns or not, of which the sums are kept for :meth:`facts`."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Rate of the recordings as they are encoded, in Hz."""

    @property
    def takes_reference(self) -> bool:
        """Whether the reference of a row that names one is read; a row whose reference cannot be read is dropped."""
        return False

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """Return, in plain types, what rows depend on besides the corpus: options, networks, the version of the code.

        Shards are found again by it, so it names no paths: the same network elsewhere makes the same rows.
        """

    def address(self, reading: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return everything that rows depend on besides the corpus; ``reading`` is how recordings are read."""
        return {**self.fingerprint(), **reading}

    def read_text(self, row: Utterance) -> Any:  # noqa: ANN401 - whatever encode takes
        """Return the text as :meth:`encode` needs it; called before the recording is read, which takes longer.

        Raises:
            RowRejected: if it cannot be used.
        """
        return row.text

    def seconds_of_codes(self, row: Utterance) -> float | None:
        """Return how long a row's codes sound if :meth:`encode` takes them in place of the recording; None: it is read.

        Asked of rows that bring ``codes``. A recording whose codes are taken need not be there.

        Raises:
            RowRejected: ``bad_codes`` if they are not the codec's.
        """
        del row
        return None

    def check_sound(self, samples: NDArray[np.float32]) -> None:
        """Refuse a recording (samples,) at :attr:`sample_rate` that the networks cannot take.

        Raises:
            RowRejected: with the reason.
        """

    def check(self, clip: Clip) -> None:
        """Refuse what :meth:`encode` drops, without its networks; for ``tts-train check --backend``.

        Raises:
            RowRejected: with the reason that :meth:`encode` gives.
        """

    @abstractmethod
    def encode(self, clips: Sequence[Clip], device: str) -> Iterable[Mapping[str, Any] | RowRejected]:
        """Yield for each clip, in order, its columns, or why it is dropped after all.

        ``id``, ``text``, ``speaker``, ``language``, ``seconds`` and ``origin`` need not be among the columns: the row's
        and the recording's are taken. Every other column of the schema must be; None where a row has none.

        Args:
            clips: what was read, :attr:`together` seconds or a little more.
            device: where this process computes, as in ``cuda:1``.
        """

    def facts(self, counts: Mapping[str, int]) -> Mapping[str, Any]:
        """Return what the report says besides the account of rows, by the sums of what is :attr:`counted`."""
        del counts
        return {}


class ReadyRows(PreparedRows):
    """Rows that somebody else made, with every column of the set: they are taken over as they are."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Check that the rows can be used, and return what they were made with, for whoever reads them.

        Raises:
            DataError: if they were made with something else.
        """

    @abstractmethod
    def address(self) -> Mapping[str, Any]:
        """Return, in plain types, what the rows depend on besides :meth:`content`."""

    @abstractmethod
    def content(self, columns: Mapping[str, Any]) -> Iterator[bytes | str]:
        """Yield what tells a row from every other."""

    @abstractmethod
    def count(self) -> int:
        """Return how many rows there are, the refused ones among them."""

    @abstractmethod
    def rows(self) -> Iterator[Mapping[str, Any] | Rejected]:
        """Yield the columns of each row, or why it cannot be used."""
