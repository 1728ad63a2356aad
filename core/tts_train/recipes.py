"""The recipes that come with tts-train and with installed backends, found by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from tts_train.errors import ConfigError
from tts_train.plugins import Installed, installed_backends

FOLDER = "recipes"
"""Where a backend's distribution keeps its recipes: in this folder of its package."""
_NAMED = re.compile(r"[A-Z][a-z ]*:")
_PACKAGED = Path(__file__).parent / FOLDER
_CHECKOUT = Path(__file__).parents[2] / "configs"


def recipes_folder() -> Path:
    """The folder of recipes: in the package where it was installed, in ``configs/`` of a checkout."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def recipes_of(backend: str) -> dict[str, Path]:
    """Name to file for every recipe of a backend: those of its own package, and those that come with tts-train."""
    folders = [recipes_folder() / backend]
    folders += [folder for found in installed_backends() if found.name == backend for folder in _packaged(found)]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def _packaged(backend: Installed) -> Iterable[Path]:
    """The folders of recipes in a backend's package, which is found and not imported."""
    # Of the outermost package: for a module in it find_spec would import it.
    spec = find_spec(backend.entry_point.module.partition(".")[0])
    return [Path(place) / FOLDER for place in (spec.submodule_search_locations if spec else None) or ()]


def every_recipe(backend: str | None = None) -> list[Path]:
    """The recipes of a backend, or of every installed backend."""
    names = [found.name for found in installed_backends()] if backend is None else [backend]
    return [path for name in names for path in recipes_of(name).values()]


def named_recipe(name: str, backend: str | None = None) -> Path | None:
    """The recipe called ``name`` of a backend, or of any where that leaves no choice; None if there is none.

    Raises:
        ConfigError: if several backends have one.
    """
    found = [path for path in every_recipe(backend) if path.stem == name]
    if len(found) > 1:
        raise ConfigError(f"Several backends have a recipe {name!r}; add --backend: {', '.join(map(str, found))}.")
    return found[0] if found else None


def find_recipe(backend: str, name: str) -> Path:
    """The recipe called ``name``.

    Raises:
        ConfigError: if there is none of this name; the message lists those there are.
    """
    known = recipes_of(backend)
    if name not in known:
        listed = ", ".join(known) or "none"
        raise ConfigError(f"Backend {backend!r} has no recipe {name!r}.{meant(name, known)} There are: {listed}.")
    return known[name]


def meant(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean …?`` for a recipe's name or file that is not there, or nothing where none is near."""
    known = sorted(set(known))
    near = [one for one in known if name and name in one] or get_close_matches(name, known, n=2, cutoff=0.7)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def summary(path: Path) -> str:
    """A recipe's first comment line."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ").strip()


def remark(path: Path, name: str) -> str | None:
    """What a recipe's comment says under ``name:``, up to the next name; None where it says nothing.

    Args:
        path: the recipe.
        name: ``Card``, ``Prepare`` (options of ``tts-train prepare``) or ``Downloads``.
    """
    said: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text.startswith(f"{name}:"):
            said.append(text.removeprefix(f"{name}:").strip())
        elif said and _NAMED.match(text):
            break
        elif said:
            said.append(text)
    return " ".join(said) or None
