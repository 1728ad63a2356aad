"""Which recogniser an option means, able to work before anything is heard."""

from __future__ import annotations

from tts_train.contract.metric import Recogniser
from tts_train.errors import ConfigError
from tts_train.plugins import Plugins
from tts_train.scoring.recognisers.sphinx import SphinxRecogniser
from tts_train.scoring.recognisers.whisper import WhisperRecogniser

AUTO = "auto"
INSTALL = SphinxRecogniser.install


def find_recogniser(name: str, model: str | None, plugins: Plugins, *, option: str) -> Recogniser:
    """Return the recogniser of a name, able to work: what it needs is installed, and its model is there.

    Args:
        name: ``auto`` is whisper, where it can be had; the weaker ones are never taken without being named.
        model: which weights; None leaves it to the recogniser.
        plugins: loaded.
        option: what named it, for messages.

    Raises:
        ConfigError: if there is none of that name, or something is missing; the message says what to type.
    """
    # All are made with this model, and one is used: making one loads nothing.
    known = {each.name: each for each in plugins.recognisers(model)}
    found = known.get(WhisperRecogniser.name if name == AUTO else name)
    if found is None:
        raise ConfigError(f"{option} {name}: there is no such recogniser. There are: {', '.join(known)}.")
    # Both before anything is heard: an hour's work may hang on what is missing.
    try:
        if why := found.missing():
            raise ConfigError(f"{option} {name}: {why}.")
        found.settings()
    except ConfigError as error:
        raise ConfigError(f"{error}{_offline(option) if found.name == WhisperRecogniser.name else ''}") from error
    return found


def _offline(option: str) -> str:
    """Say what works without a download, and what it is worth."""
    sphinx = SphinxRecogniser(None)
    install = f" after {sphinx.install}" if sphinx.missing() else ""
    return f" Without a download, for English only, there is {option} {sphinx.name}{install}; {sphinx.worth}"
