"""The sentences of a text, which are spoken one at a time, and a warning where they are in another language."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection

from tts_train.contract import MissingExtraError
from tts_train.corpus import SHORTEST as SHORTEST_TOLD
from tts_train_gpt_sovits.text.languages import detect_language, normalise_language
from tts_train_gpt_sovits.text.reading import TextRejected

# Neither `No. 5` nor a date like `2024. 5. 1.` ends at its stops.
_ENDS = re.compile(r"(?<=[。！？…!?;；\n])|(?<=\.)(?=\s|$)(?!(?:(?<=\d\.)|(?<=[Nn]o\.))\s\d)")
# Titles and abbreviations, whose full stop ends no sentence, and initials (J. R. R. Tolkien).
_GOES_ON = re.compile(
    r"\b(?:Mrs?|Ms|Dr|Prof|St|Mt|Gen|Sgt|Capt|Lt|Col|Rev|Hon|Gov|Sen|Rep|vs|approx|[Ff]ig|[Vv]ol|[Cc]h|pp?|Nos?|e\.g|i\.e|[A-Z])\.$"
)
SHORTEST = 6
"""Characters; what is shorter is spoken with its neighbour, as the networks stumble over single words."""


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, in order, short ones joined to the one before.

    A full stop ends a sentence before a blank or at the end only, so that numbers stay whole; that of an abbreviation,
    or before a small letter, ends none.
    """
    whole: list[str] = []
    for piece in filter(None, (part.strip() for part in _ENDS.split(text))):
        if whole and whole[-1].endswith(".") and (piece[0].islower() or _GOES_ON.search(whole[-1])):
            whole[-1] = f"{whole[-1]} {piece}"
        else:
            whole.append(piece)
    sentences: list[str] = []
    for piece in whole:
        if sentences and min(len(piece), len(sentences[-1])) < SHORTEST:
            sentences[-1] = f"{sentences[-1]} {piece}"
        else:
            sentences.append(piece)
    return sentences


_log = logging.getLogger(__name__)


def warn_of_language(text: str, language: str, trained: Collection[str]) -> None:
    """Warn of a language that the voice's data do not have, and of a text that is in another one.

    Args:
        text: What is spoken.
        language: The language that it is read in.
        trained: Languages of the voice's data; empty where they are not known.
    """
    name = normalise_language(language)
    known = [normalise_language(each) for each in trained]
    if known and name not in known:
        _log.warning(
            "The voice was trained on %s, and the text is read as %s: its pronunciation comes from the base alone.",
            ", ".join(known),
            name,
        )
    if name != "en" or len(text) < SHORTEST_TOLD:
        return
    try:
        found = detect_language(text)
    except MissingExtraError:
        return
    except TextRejected as rejected:
        if rejected.reason == "unknown_language":
            _log.warning("The text is read as English, and %s", rejected.detail)
        return
    # A foreign name or two in an English sentence is no other language.
    if found != "en" and sum(character.isascii() for character in text) < len(text) / 2:
        _log.warning("The text is read as English, and looks like %s. Give --language %s.", found, found)
