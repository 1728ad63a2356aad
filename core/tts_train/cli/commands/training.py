"""The front of ``fit``, ``validate`` and ``test``: understands the words and says no, before torch is imported."""

from __future__ import annotations

from tts_train.cli.importing import first_imports
from tts_train.cli.parsing.arguments import JSON_FLAG
from tts_train.cli.parsing.early import check_early
from tts_train.cli.parsing.select import select
from tts_train.cli.parsing.words import understood


def run(verb: str, words: list[str]) -> int:
    """Check the words, then hand them to what trains."""
    as_json = JSON_FLAG in words
    words = understood(verb, [word for word in words if word != JSON_FLAG])
    selection = select(words)
    chosen = selection.load(verb=verb)
    if not set(words) & {"-h", "--help"}:
        check_early(verb, chosen, selection)
    with first_imports():
        from tts_train.cli.commands import train

        chosen.plugins.model(chosen.stage)
        chosen.plugins.data(chosen.stage)
    return train.run(verb, chosen, selection, as_json=as_json)
