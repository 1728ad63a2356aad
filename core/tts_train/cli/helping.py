"""``--help`` where no backend is named, and so no options are known."""

from __future__ import annotations

from typing import Literal

from tts_train.configuration.select import Chosen, Selection
from tts_train.plugins import installed_backends

HELP = {"-h", "--help"}


def load(selection: Selection, verb: str, for_job: Literal["prepare", "synth"] | None = None) -> Chosen:
    """Import what a command line chose; where it asks for help and chose no backend, say how and end the command.

    Args:
        selection: The command line.
        verb: The command.
        for_job: What the stage is wanted for, where any that does it the same way will do.

    Raises:
        ConfigError: if no backend was chosen, or it or its stage is unknown.
    """
    if selection.backend is None and HELP & set(selection.rest):
        backends = [found.name for found in installed_backends()]
        names = ", ".join(backends) or "none; install one"
        print(f"Options are a backend's: add --backend NAME before --help to see them. Installed: {names}. Type:")
        print("\n".join(f"  tts-train {verb} --backend {name} --help" for name in backends))
        raise SystemExit(0)
    return selection.load(verb=verb, for_job=for_job)
