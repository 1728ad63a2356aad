"""What to type for recordings of which nothing says what is said in them."""

from __future__ import annotations

from pathlib import Path

from tts_train.configuration.outline import group_of
from tts_train.contract.backend import Backend
from tts_train.errors import NoTextsError, quoted
from tts_train.plugins import working_backends

_SLICES, _TRANSCRIBE = "slices", "transcribe"


def lines_for(error: NoTextsError) -> str:
    """Return commands that cut the recordings and draft their texts, for the lines below the error."""
    backend = next((found.name for found in working_backends() if _slices(found)), None)
    if backend is None:
        return ""
    # ``.`` has no name to which -slices could be added.
    corpus = error.corpus if error.corpus.name else error.corpus.absolute()
    made = Path(f"{corpus.with_suffix('') if error.corpus.is_file() else corpus}-slices")
    words = ["tts-train", "prepare", "--backend", backend, "--corpus", str(corpus), "--out", str(made)]
    commands = [
        "pip install 'tts-train[asr]'",
        quoted(*words, f"--{_SLICES}", f"--{_TRANSCRIBE}", "small"),
        quoted("tts-train", "check", made),
    ]
    return (
        "\nOr cut them at silences and have the texts drafted (small is the size of the model, which is downloaded "
        "once), a line at a time:\n  "
        + "\n  ".join(commands)
        + f"\nRead {made / 'slices.list'} through, and give {made} to prepare as --corpus, for any backend. Without "
        f"--{_TRANSCRIBE} its texts are empty, to be written by hand."
    )


def _slices(backend: Backend) -> bool:
    """Tell whether the prepare of a backend cuts recordings."""
    jobs = (stage.prepare for stage in backend.stages if stage.prepare is not None)
    outlines = [group_of(job) for job in jobs]
    return any(outline is not None and {_SLICES, _TRANSCRIBE} <= set(outline.keys) for outline in outlines)
