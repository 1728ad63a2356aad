"""Reads recordings with their text, and accounts for every row.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.corpus.audio.containers import Limits as Limits
    from tts_train.corpus.audio.read import read_audio as read_audio
    from tts_train.corpus.language import SHORTEST as SHORTEST, detected as detected, says_nothing as says_nothing
    from tts_train.corpus.reasons import declare_reasons as declare_reasons
    from tts_train.corpus.rows.text import read_lines as read_lines, require_utf8 as require_utf8
    from tts_train.corpus.rows.utterance import (
        Rejected as Rejected,
        RowRejected as RowRejected,
        Utterance as Utterance,
        utterance_id as utterance_id,
    )

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".audio.containers": "Limits",
        ".audio.read": "read_audio",
        ".language": "SHORTEST detected says_nothing",
        ".reasons": "declare_reasons",
        ".rows.text": "read_lines require_utf8",
        ".rows.utterance": "Rejected RowRejected Utterance utterance_id",
    },
)
