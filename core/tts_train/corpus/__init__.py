"""Reads recordings with their text, and accounts for every row."""

from __future__ import annotations

from tts_train.corpus.audio import Audio, check_pace, read_audio, read_utterance
from tts_train.corpus.containers import AudioRejected, Limits
from tts_train.corpus.ledger import Ledger, no_rows
from tts_train.corpus.probing import survey
from tts_train.corpus.read import LAYOUTS, Corpus, kept_utterances, open_corpus
from tts_train.corpus.reasons import REASONS, WARNINGS
from tts_train.corpus.utterance import Rejected, Row, TokenRow, Utterance, utterance_id

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
    "TokenRow",
    "Utterance",
    "check_pace",
    "kept_utterances",
    "no_rows",
    "open_corpus",
    "read_audio",
    "read_utterance",
    "survey",
    "utterance_id",
]
