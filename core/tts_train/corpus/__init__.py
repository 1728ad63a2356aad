"""Reads recordings with their text, and accounts for every row."""

from __future__ import annotations

from tts_train.corpus.audio.containers import AudioRejected, Limits
from tts_train.corpus.audio.read import Audio, RowReader, check_pace, read_audio, read_row, read_utterance
from tts_train.corpus.ledger import Ledger, no_rows
from tts_train.corpus.probing import survey
from tts_train.corpus.read import LAYOUTS, Corpus, kept_utterances, open_corpus
from tts_train.corpus.rows.utterance import Rejected, Row, RowRejected, TokenRow, Utterance, utterance_id
from tts_train.reasons import REASONS, WARNINGS, declare_reasons

__all__ = [
    "LAYOUTS",
    "REASONS",
    "WARNINGS",
    "Audio",
    "AudioRejected",
    "Corpus",
    "Ledger",
    "Limits",
    "Rejected",
    "Row",
    "RowReader",
    "RowRejected",
    "TokenRow",
    "Utterance",
    "check_pace",
    "declare_reasons",
    "kept_utterances",
    "no_rows",
    "open_corpus",
    "read_audio",
    "read_row",
    "read_utterance",
    "survey",
    "utterance_id",
]
