"""The ids of a model whose frames are one position each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tts_train.families.token_lm.layout import TokenLayout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tts_train.families.token_lm.layout import Ids


@dataclass(frozen=True, kw_only=True)
class FrameLayout(TokenLayout):
    """Rows and generated speech are lists of ids as in any layout, ``slots`` ids a frame; the network reads a frame as
    one position.

    The end of speech is one id in a row, and to the network a frame that has :attr:`end_code` in every codebook.
    """

    codes: int
    """Codes of each codebook that the codec has; those above them are the network's own and are never drawn."""
    end_code: int = 0
    """The code that every codebook has in the frame that ends the speech."""

    @property
    def output_rows(self) -> int:
        """The codes of the first codebook."""
        return self.codebook_size

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
            (positions,) at which of the row's positions a frame stands, the end of speech included; and the codes of
            these frames (frames, slots).
        """
        row = np.asarray(ids, dtype=np.int64)
        first = row[self.starts(row)]
        audio = self.slot_of(first) == 0
        # The end is a frame as well: it is embedded, said and learnt as the others are.
        framed = audio | (first == self.end_of_speech)
        codes = np.full((int(framed.sum()), self.slots), self.end_code, dtype=np.int64)
        codes[audio[framed]] = self.in_frames(row[self.slot_of(row) >= 0]) - self._offsets
        return framed, codes
