"""Cuts a text into sentences, which are spoken one at a time."""

from __future__ import annotations

import re

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
