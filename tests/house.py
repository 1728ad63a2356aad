"""The measure of the source, ``tools/measure_house.py``, as tests use it: what is counted is counted in one place."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def _load() -> ModuleType:
    name = "measure_house"
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look up their types there
    spec.loader.exec_module(module)
    return module


measure_house = _load()
PACKAGES = measure_house.read_packages(ROOT)
"""Modules of the core and of each plugin, by package."""
MODULES = [module for each in PACKAGES.values() for module in each]
