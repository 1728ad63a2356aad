"""Imports a language's library when it is first needed, and says which extra brings it."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import ModuleType

from tts_train.contract import MissingExtraError


def library(module: str, *, purpose: str, extra: str) -> ModuleType:
    """Import `module`, which `extra` installs.

    Raises:
        MissingExtraError: the module, or one that it needs, is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some warn of their own imports, which no user can change
            return import_module(module)
    except ImportError as error:
        raise MissingExtraError(purpose, extra) from error
