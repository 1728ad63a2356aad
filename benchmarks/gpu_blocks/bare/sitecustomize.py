"""Hides installed distributions from a process: it sees what a bare machine would have, and what was carried to it.

Python imports this at its start where the folder is on PYTHONPATH; ``GPU_BLOCKS_HIDDEN`` names a file that says what.
"""

from __future__ import annotations

import json
import os
import re
import site
import sys
from importlib.machinery import PathFinder
from pathlib import Path

_FOLDERS = {str(Path(folder).resolve()) for folder in site.getsitepackages()}
_told = json.loads(Path(os.environ["GPU_BLOCKS_HIDDEN"]).read_text(encoding="utf-8"))
_MODULES, _DISTRIBUTIONS = set(_told["modules"]), set(_told["distributions"])


class Bare(PathFinder):
    """Finds what the interpreter's own folders of packages hold only where it is allowed."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        """Find a module as ever, and forget a hidden one."""
        spec = super().find_spec(fullname, path, target)
        if spec is None or path is not None or fullname not in _MODULES:
            return spec
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
        return None if any(_installed(place) for place in places) else spec

    @classmethod
    def find_distributions(cls, *args, **kwargs):
        """Yield what is announced, hidden ones left out."""
        for found in super().find_distributions(*args, **kwargs):
            name = re.sub(r"[-_.]+", "-", found.metadata["Name"] or "").lower()
            if name not in _DISTRIBUTIONS or not _installed(str(found.locate_file(""))):
                yield found


def _installed(place: str) -> bool:
    resolved = str(Path(place).resolve())
    return any(resolved.startswith(folder) for folder in _FOLDERS)


sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
