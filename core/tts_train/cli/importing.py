"""The first import of torch, Lightning and transformers: two million objects, none of which is garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def first_imports() -> Iterator[None]:
    """Keep the garbage collector off while torch and what stands on it are imported for the first time.

    It would walk through all that was imported eight times, which is a sixth of the time, and never find anything.
    Afterwards it leaves those objects alone for good. Where torch is there already nothing changes.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
