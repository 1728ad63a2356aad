"""What to type for recordings of which nothing says what is said in them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from tts_train.errors import NoTextsError, extra_words, quoted

_EXTRAS = {"corpus": "silero_vad", "asr": "faster_whisper"}
"""Extras that the commands work best with, each with the package by which it is known."""


def lines_for(error: NoTextsError) -> str:
    """Return commands that cut the recordings and write their texts, for the lines below the error."""
    # ``.`` has no name to which -corpus could be added.
    corpus = error.corpus if error.corpus.name else error.corpus.absolute()
    made = Path(f"{corpus.with_suffix('') if error.corpus.is_file() else corpus}-corpus")
    return (
        "\nOr have them cut at silences and their texts written, for any backend, a line at a time:\n  "
        + "\n  ".join(_commands(corpus, made))
        + f"\nThen give {made} in place of {corpus}. corpus transcribe downloads a model once; offline, for English, "
        "add --recogniser sphinx to it."
    )


def _commands(corpus: Path, made: Path) -> Iterator[str]:
    # Looked for each time: the line is for those who lack something, and they only.
    lacking = [extra for extra, package in _EXTRAS.items() if importlib.util.find_spec(package) is None]
    if lacking:
        yield f"pip install {extra_words(','.join(lacking))}"
    yield quoted("tts-train", "corpus", "slice", corpus, "--out", made)
    yield quoted("tts-train", "corpus", "transcribe", made)
    yield quoted("tts-train", "corpus", "review", made)
    yield quoted("tts-train", "check", made)
