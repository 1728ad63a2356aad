"""Reads recordings with their text, and accounts for every row.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.corpus.audio.containers import AudioRejected as AudioRejected, Limits as Limits
    from tts_train.corpus.audio.read import (
        Audio as Audio,
        RowReader as RowReader,
        check_pace as check_pace,
        read_audio as read_audio,
        read_row as read_row,
        read_utterance as read_utterance,
    )
    from tts_train.corpus.language import SHORTEST as SHORTEST, detected as detected, says_nothing as says_nothing
    from tts_train.corpus.ledger import Ledger as Ledger, no_rows as no_rows
    from tts_train.corpus.probing import survey as survey
    from tts_train.corpus.read import (
        LAYOUTS as LAYOUTS,
        Corpus as Corpus,
        kept_utterances as kept_utterances,
        open_corpus as open_corpus,
    )
    from tts_train.corpus.rows.names import AUDIO_SUFFIXES as AUDIO_SUFFIXES, is_audio as is_audio
    from tts_train.corpus.rows.text import read_lines as read_lines, require_utf8 as require_utf8
    from tts_train.corpus.rows.utterance import (
        Rejected as Rejected,
        Row as Row,
        RowRejected as RowRejected,
        TokenRow as TokenRow,
        Utterance as Utterance,
        utterance_id as utterance_id,
    )
    from tts_train.reasons import REASONS as REASONS, WARNINGS as WARNINGS, declare_reasons as declare_reasons

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".audio.containers": "AudioRejected Limits",
        ".audio.read": "Audio RowReader check_pace read_audio read_row read_utterance",
        ".ledger": "Ledger no_rows",
        ".probing": "survey",
        ".read": "LAYOUTS Corpus kept_utterances open_corpus",
        ".rows.names": "AUDIO_SUFFIXES is_audio",
        ".rows.text": "read_lines require_utf8",
        ".rows.utterance": "Rejected Row RowRejected TokenRow Utterance utterance_id",
        ".language": "SHORTEST detected says_nothing",
        "tts_train.reasons": "REASONS WARNINGS declare_reasons",
    },
)
