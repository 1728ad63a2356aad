"""The command that comes after ``check``, ``prepare`` and ``sample``, on stderr: stdout holds the report alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tts_train.configuration.recipe_file import read_config
from tts_train.contract.backend import Backend
from tts_train.errors import ConfigError, quoted
from tts_train.jobs.deep import DEEP
from tts_train.jobs.sample import learning_command
from tts_train.progress import write_line


def after_check(corpus: str, words: Sequence[str], *, kept: Path | None = None) -> None:
    """Say how to prepare a corpus that a backend's rules were applied to.

    Args:
        corpus: what was checked.
        words: the command line of ``check`` after the verb.
        kept: list of the rows to prepare, where they are not all of the corpus.
    """
    options = list(_without(words, corpus))
    beside, corpus = Path(corpus).parent, str(kept or corpus)
    out = next((out for _, out in _recipes(beside)), beside / f"{Path(corpus).stem}-prepared")
    _say(quoted("tts-train", "prepare", *options, "--corpus", corpus, "--out", out))


def after_prepare(out: Path, backend: Backend, options: Sequence[str] = ()) -> None:
    """Say how to train on a prepared set: with the recipes beside it that name it, or with those for beginners.

    Args:
        out: the prepared set.
        backend: what it was prepared for.
        options: what recipes for beginners do not say of it; see ``PrepareJob.fit_options``.
    """
    found = [recipe for recipe, path in _recipes(out.parent) if _same(path, out)]
    for recipe in found:
        # As init names runs.
        name = out.parent.resolve().name + ("" if len(found) == 1 else f"-{recipe.stem}")
        _say(quoted("tts-train", "fit", "-c", recipe, "--run_dir", Path("runs") / name))
    if not found:
        for name in backend.start:
            _say(quoted("tts-train", "fit", "--backend", backend.name, "-c", name, "--data.path", out, *options))


def after_sample(said: Mapping[str, Any], backend: Backend) -> None:
    """Say how to train on the pairs of a set of takes, where a stage of the backend learns from them.

    Args:
        said: What the set says of itself.
        backend: Whose takes they are.
    """
    for command in learning_command(said, backend):
        _say(command)


def _say(command: str) -> None:
    write_line(f"Next: {command}")


def _recipes(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each recipe in a folder with the prepared set that it names."""
    for file in sorted(folder.glob("*.yaml")):
        try:
            data = read_config(file).get("data")
        # A file of another tool.
        except ConfigError:
            continue
        path = data.get("path") if isinstance(data, dict) else None
        if isinstance(path, str):
            yield file, Path(path)


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _without(words: Sequence[str], corpus: str) -> Iterator[str]:
    """Yield the words of check that prepare takes, too."""
    skip, seen = False, False
    for word in words:
        name, equals, _ = word.replace("-", "_").lstrip("_").partition("=")
        if skip:
            skip = False
        elif word == corpus and not seen:
            seen = True
        elif not word.startswith("--"):
            yield word
        elif name in ("dropped", *DEEP):
            skip = not equals
        elif name not in ("json", "deep"):
            yield word
