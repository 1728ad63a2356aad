"""Says where a text is not in the language that it is spoken in, or the voice was not trained in that."""

from __future__ import annotations

import logging
from collections.abc import Collection

from tts_train.contract import MissingExtraError
from tts_train.corpus import SHORTEST
from tts_train_gpt_sovits.text.languages import detect_language, normalise_language
from tts_train_gpt_sovits.text.reading import TextRejected

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
    if name != "en" or len(text) < SHORTEST:
        return
    try:
        found = detect_language(text)
    except MissingExtraError:
        return
    except TextRejected as rejected:
        if rejected.reason == "unknown_language":
            _log.warning("The text is read as English, and %s", rejected.detail)
        return
    if found != "en" and sum(character.isascii() for character in text) < len(text) / 2:
        _log.warning("The text is read as English, and looks like %s. Give --language %s.", found, found)
