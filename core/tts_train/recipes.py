"""The recipes that come with tts-train, found by name."""

from __future__ import annotations

from pathlib import Path

from tts_train.errors import ConfigError

_PACKAGED = Path(__file__).parent / "recipes"
_CHECKOUT = Path(__file__).parents[2] / "configs"


def recipes_folder() -> Path:
    """The folder of recipes: in the package where it was installed, in ``configs/`` of a checkout."""
    return _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT


def recipes_of(backend: str) -> dict[str, Path]:
    """Name to file for every recipe of a backend."""
    return {path.stem: path for path in sorted((recipes_folder() / backend).glob("*.yaml"))}


def find_recipe(backend: str, name: str) -> Path:
    """The recipe called ``name``.

    Raises:
        ConfigError: if there is none of this name; the message lists those there are.
    """
    known = recipes_of(backend)
    if name not in known:
        raise ConfigError(f"Backend {backend!r} has no recipe {name!r}. There are: {', '.join(known) or 'none'}.")
    return known[name]


def summary(path: Path) -> str:
    """A recipe's first comment line."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ").strip()
