"""The ids of a model whose frames are one position each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tts_train.families.token_lm.layout import Token, TokenLayout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tts_train.families.token_lm.layout import Ids


@dataclass(frozen=True, kw_only=True)
class FrameLayout(TokenLayout):
    """Rows and generated speech are lists of ids as in any layout, ``slots`` ids a frame; the network reads a frame as
    one position.

    The end of speech is one id in a row. To the network it is a frame that has :attr:`end_code` in every codebook or,
    without :attr:`end_is_frame`, a row of the first codebook's output matrix alone.
    """

    codes: int
    """Codes of each codebook that the codec has; those above them are the network's own and are never drawn."""
    end_code: int = 0
    """The code that every codebook has in the frame that ends the speech, or the first one's row that ends it."""
    end_is_frame: bool = True
    """Whether all codebooks say the end; else the first one does, and the depth network has no part in it."""
    first_rows: int | None = None
    """Rows of the first codebook's output matrix, where it has more than ``codebook_size``."""
    rows_base: int = 0
    """Id of its row 0, of those that are no codes: the ids of the others are counted from it."""
    depth_share: float = 1.0
    """Weight of the depth network's mean loss beside that of the first codebook."""
    repeats_penalised: bool = False
    """Whether a penalty on repetition can be asked for, which then is for first codes; else it is refused."""
    least_frames: int = 0
    """Frames before which the end is not drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.end_is_frame and self.rows_base + self.end_code != self.end_of_speech:
            raise ValueError(f"end_of_speech is {self.end_of_speech} and must be rows_base + end_code.")

    @property
    def output_rows(self) -> int:
        """The rows of the first codebook's output matrix."""
        return self.first_rows or self.codebook_size

    def first_ids(self, rows: Token) -> Token:
        """Return the ids of rows of the first codebook's output matrix; takes an int, an array or a tensor."""
        made: Token = rows + self.audio_base + (rows >= self.codebook_size) * (self.rows_base - self.audio_base)
        return made

    @property
    def frame_positions(self) -> int:
        """One."""
        return 1

    def starts(self, ids: ArrayLike) -> Ids:
        """Return the index (positions,) in ``ids`` of each text id, control id and first id of a frame."""
        # -1 stands for text and control ids, 0 for the first id of a frame.
        places: Ids = np.flatnonzero(self.slot_of(np.asarray(ids, dtype=np.int64)) <= 0)
        return places

    def frames_in(self, ids: ArrayLike) -> tuple[NDArray[np.bool_], Ids]:
        """Read a row of whole frames as the network does.

        Args:
            ids: (tokens,)

        Returns:
            (positions,) at which of the row's positions a frame stands, the end of speech included if it is one; and
            the codes of these frames (frames, slots).
        """
        row = np.asarray(ids, dtype=np.int64)
        first = row[self.starts(row)]
        audio = self.slot_of(first) == 0
        # Where the end is a frame as well, it is embedded, said and learnt as the others are.
        framed = audio | (first == self.end_of_speech) if self.end_is_frame else audio
        codes = np.full((int(framed.sum()), self.slots), self.end_code, dtype=np.int64)
        codes[audio[framed]] = self.in_frames(row[self.slot_of(row) >= 0]) - self._offsets
        return framed, codes
