"""What torch gets in place of the classes that a pickle names: things that hold values and do nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from tts_train.weights.calls import PATHS, SCALARS


class _Attributes(dict[str, Any]):
    """A dict of the attributes that a pickle sets on an object."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


class _Inert:
    """A numpy type that nothing is made of."""

    def __init__(self, *_arguments: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def _nothing(*_arguments: object) -> None:
    """Stand for a path or a number; its value is known from the description already."""


def stand_ins(dict_classes: Collection[str]) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return what ``torch.serialization.safe_globals`` takes: stand-ins and the full names they answer to."""
    functions = [(_nothing, name) for name in (*PATHS, *SCALARS)]
    return [*functions, (_Inert, "numpy.dtype"), *((_Attributes, name) for name in dict_classes)]
