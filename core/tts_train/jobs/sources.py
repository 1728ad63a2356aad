"""Which backend and stage a source belongs to that is exported, spoken with or evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tts_train.configuration.arguments import JSON_FLAG
from tts_train.configuration.select import Selection
from tts_train.disk.provenance import Provenance, read_provenance
from tts_train.errors import DataError
from tts_train.plugins import installed_backends

_FLAGS = {JSON_FLAG, "-h", "--help"}


def select_by_source(selection: Selection) -> Selection:
    """Take backend and stage from the card of what is exported or spoken with, unless they are given.

    Raises:
        DataError: if no source has a card.
    """
    if selection.backend is not None:
        return selection
    sources = list(_positionals(selection.rest))
    if not sources:
        return any_backend(selection)
    card = _first_card(sources)
    return replace(selection, backend=card.backend, stage=selection.stage or card.stage)


def any_backend(selection: Selection) -> Selection:
    """Take the only backend that is installed; where there are several, none."""
    names = [found.name for found in installed_backends()]
    return replace(selection, backend=names[0]) if len(names) == 1 else selection


def _first_card(sources: Sequence[str]) -> Provenance:
    """Return the card of the first source that has one; only ``eval`` takes several.

    Raises:
        DataError: about the first, if none has one.
    """
    for source in sources:
        with suppress(DataError):
            return read_provenance(Path(source))
    return read_provenance(Path(sources[0]))


def _positionals(words: Sequence[str]) -> Iterator[str]:
    """Yield the words that are neither an option nor an option's value."""
    left = iter(words)
    for word in left:
        if not word.startswith("-"):
            yield word
        elif "=" not in word and word not in _FLAGS:
            # The option's value; which options there are is known only once a backend is chosen.
            next(left, None)
