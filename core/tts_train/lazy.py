"""Public names of a package that are imported when they are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose public names are imported on demand.

    Args:
        package: The package's ``__name__``.
        homes: Module (absolute, or from ``.`` on inside the package) -> its public names, separated by blanks.
    """
    home = {name: module for module, names in homes.items() for name in names.split()}

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"{package} has no name {name!r}; see docs/writing-a-backend.md")
        value = getattr(import_module(home[name], package), name)
        # Found without this function from now on.
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted(home)
