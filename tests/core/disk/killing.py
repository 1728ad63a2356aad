"""Ends a writer at its n-th change of the disk, as a kill does: nothing that it would have done later is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


class Killed(BaseException):
    """Passes every ``except Exception``."""


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Do some work until its ``number``-th rename, removal or opening for writing; tell whether it came that far."""
    left = number

    def counted(real):
        def change(self, *args, **options):
            nonlocal left
            if not (real.__name__ == "open" and (args or [options.get("mode", "r")])[0][0] == "r"):
                left -= 1
                if left < 0:
                    raise Killed
            return real(self, *args, **options)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "unlink", "open"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        try:
            work()
        except Killed:
            return True
    return False
