"""Refuses names that Windows does not allow, or takes for something else: ``a:b.wav`` would be written into ``a``."""

from __future__ import annotations

import sys
from pathlib import Path

from tts_train.errors import ConfigError

_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
_SIGNS = '<>:"|?*'


def require_allowed(path: Path, *, option: str = "--out") -> None:
    """Refuse a path that this system cannot write to under its name; only Windows has such names.

    Args:
        path: where something is to be written.
        option: the option that named it.

    Raises:
        ConfigError: naming the part that is not allowed, and what is.
    """
    if sys.platform != "win32":
        return
    for part in path.parts[1 if path.anchor else 0 :]:
        if part == "..":
            continue
        if part.split(".")[0].strip().lower() in _DEVICES or part != part.rstrip(" .") or set(part) & set(_SIGNS):
            raise ConfigError(
                f"{option} {path}: {part!r} is no name for a file under Windows, which keeps {' '.join(_SIGNS)}, a dot "
                f"or blank at the end, and names such as CON and NUL. Choose another {option}."
            )
