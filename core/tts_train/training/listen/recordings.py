"""Finds the recordings of passages in the corpus that the training data were prepared from."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tts_train.contract.voice import Passage
from tts_train.corpus import AudioRejected, Utterance, open_corpus, read_utterance
from tts_train.sound import Sound

SAMPLE_RATE = 24_000
"""Of a recording of which the codec's version is not known."""

logger = logging.getLogger(__name__)


def with_recordings(passages: Sequence[Passage], path: Path) -> list[Passage]:
    """Return the passages with their recordings from a corpus, at the rate of the codec's version; others as they are.

    Raises:
        DataError: if there is no corpus at ``path``.
    """
    wanted = {passage.id: passage for passage in passages if passage.id is not None and passage.recording is None}
    corpus = open_corpus(path)
    found: dict[str, Passage] = {}
    for row in corpus.rows():
        if len(found) == len(wanted):
            break
        if isinstance(row, Utterance) and row.id in wanted:
            found[row.id] = _with_recording(wanted[row.id], row, corpus.root)
    if len(found) < len(wanted):
        logger.warning("%s holds %d of %d passages' recordings.", path, len(found), len(wanted))
    return [found.get(passage.id or "", passage) for passage in passages]


def _with_recording(passage: Passage, row: Utterance, root: Path | None) -> Passage:
    rate = passage.ceiling.sample_rate if passage.ceiling else SAMPLE_RATE
    try:
        audio = read_utterance(row, sample_rate=rate, root=root)
    except AudioRejected as rejected:
        logger.warning("The recording of %r cannot be used: %s.", passage.text, rejected.reason)
        return passage
    return replace(passage, recording=Sound(audio.samples, rate))
