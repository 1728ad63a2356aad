"""Cuts a text into sentences, which are spoken one at a time."""

from __future__ import annotations

import re

# Neither `No. 5` nor a date like `2024. 5. 1.` ends at its stops.
_ENDS = re.compile(r"(?<=[。！？…!?;；\n])|(?<=\.)(?=\s|$)(?!(?:(?<=\d\.)|(?<=[Nn]o\.))\s\d)")
SHORTEST = 6
"""Characters; what is shorter is spoken with its neighbour, as the networks stumble over single words."""


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, in order, short ones joined to the one before.

    A full stop ends a sentence before a blank or at the end only, so that numbers stay whole.
    """
    sentences: list[str] = []
    for piece in filter(None, (part.strip() for part in _ENDS.split(text))):
        if sentences and min(len(piece), len(sentences[-1])) < SHORTEST:
            sentences[-1] = f"{sentences[-1]} {piece}"
        else:
            sentences.append(piece)
    return sentences
