"""The first import of torch, Lightning and transformers: two million objects, none of which is garbage."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tts_train.errors import ConfigError


@contextmanager
def first_imports() -> Iterator[None]:
    """Keep the garbage collector off while torch and what stands on it are imported for the first time.

    It would walk through all that was imported eight times, which is a sixth of the time, and never find anything.
    Afterwards it leaves those objects alone for good. Where torch is there already nothing changes.

    Raises:
        ConfigError: if torch is installed and cannot be imported.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    except (ImportError, OSError):
        _refuse_broken_torch()
        raise
    finally:
        # They live as long as the process; each collection would walk through them again.
        gc.freeze()
        gc.enable()


def _refuse_broken_torch() -> None:
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:  # of a library that it links, such as one of CUDA's
        raise ConfigError(
            f"torch does not import: {error}. Install the build for this machine (pytorch.org), and run tts-train "
            "doctor."
        ) from error
