"""Nested Python state to JSON and back, exactly; tensors are handed to a sink and replaced by references."""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, TypeAlias

import numpy as np
import torch

Json: TypeAlias = Any
"""What the json module reads and writes."""
Restored: TypeAlias = Any
"""Whatever was encoded."""
Keys = tuple[Any, ...]
Sink = Callable[[Keys, torch.Tensor], "dict[str, Any]"]
Source = Callable[["dict[str, Any]"], torch.Tensor]


class NotRepresentableError(TypeError):
    """A value that a checkpoint cannot hold; the message names where it was found."""

    def __init__(self, keys: Keys, what: str) -> None:
        super().__init__(
            f"{where(keys)} is {what}, which a checkpoint cannot hold. A checkpoint holds tensors, numpy arrays, None, "
            "booleans, numbers, strings, bytes, paths, and lists, tuples, sets and dictionaries of those. "
            "Return one of these from state_dict() or on_save_checkpoint()."
        )


def where(keys: Keys) -> str:
    """Spell a path into nested state the way Python would."""
    return "checkpoint" + "".join(f"[{key!r}]" for key in keys)


def encode(value: Restored, sink: Sink, keys: Keys = ()) -> Json:
    """Turn ``value`` into JSON types. Anything JSON lacks becomes ``{"$kind": ...}``.

    Raises:
        NotRepresentableError: naming the path of a value that cannot be restored exactly.
    """
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        # JSON has no NaN and no infinities, which Python would write all the same.
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, torch.Tensor):
        return sink(keys, value)
    # By exact type: a subclass would come back as its base, without what it adds.
    if kind in (dict, OrderedDict, Counter):
        return _encode_mapping(value, sink, keys)
    if kind is list:
        return [encode(item, sink, (*keys, index)) for index, item in enumerate(value)]
    if kind in _SEQUENCES:
        # Sets have no order of their own, and the same state should give the same bytes.
        items = sorted(value, key=repr) if kind in (set, frozenset) else value
        return {f"${_SEQUENCES[kind]}": [encode(item, sink, (*keys, index)) for index, item in enumerate(items)]}
    return _encode_leaf(value, sink, keys)


def decode(value: Json, source: Source) -> Restored:
    """Undo :func:`encode`."""
    if type(value) is list:
        return [decode(item, source) for item in value]
    if type(value) is not dict:
        return value
    kind = next((key for key in value if key.startswith("$")), None)
    if kind is None:
        return {key: decode(item, source) for key, item in value.items()}
    return _DECODERS[kind](value, source)


def _encode_mapping(value: dict[Any, Any], sink: Sink, keys: Keys) -> Json:
    # A key that begins with $ would be taken for a kind when it is read, so such dicts become pairs.
    if type(value) is dict and all(type(key) is str and not key.startswith("$") for key in value):
        return {key: encode(item, sink, (*keys, key)) for key, item in value.items()}
    pairs = [[encode(key, sink, (*keys, "key")), encode(item, sink, (*keys, key))] for key, item in value.items()]
    return {_MAPPINGS[type(value)]: pairs}


def _encode_leaf(value: object, sink: Sink, keys: Keys) -> Json:
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"$device": str(value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, PurePath):
        return {"$path": str(value)}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
        # np.array makes an array of a scalar, too; from_numpy takes arrays alone.
        tensor = torch.from_numpy(np.array(value))
        return {"$numpy": sink(keys, tensor), "scalar": isinstance(value, np.generic)}
    raise NotRepresentableError(keys, f"a {type(value).__module__}.{type(value).__qualname__}")


def _decode_pairs(pairs: list[list[Any]], source: Source) -> list[tuple[Any, Any]]:
    return [(decode(key, source), decode(item, source)) for key, item in pairs]


def _decode_numpy(value: dict[str, Any], source: Source) -> Restored:
    array = source(value["$numpy"]).numpy()
    return array[()] if value["scalar"] else array


_SEQUENCES: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset", torch.Size: "size"}
_MAPPINGS: dict[type, str] = {dict: "$map", OrderedDict: "$ordered", Counter: "$counter"}
_DECODERS: dict[str, Callable[[dict[str, Any], Source], Any]] = {
    "$float": lambda value, _: float(value["$float"]),
    "$map": lambda value, source: dict(_decode_pairs(value["$map"], source)),
    "$ordered": lambda value, source: OrderedDict(_decode_pairs(value["$ordered"], source)),
    "$counter": lambda value, source: Counter(dict(_decode_pairs(value["$counter"], source))),
    "$tuple": lambda value, source: tuple(decode(item, source) for item in value["$tuple"]),
    "$set": lambda value, source: {decode(item, source) for item in value["$set"]},
    "$frozenset": lambda value, source: frozenset(decode(item, source) for item in value["$frozenset"]),
    "$size": lambda value, _: torch.Size(value["$size"]),
    "$dtype": lambda value, _: getattr(torch, value["$dtype"]),
    "$device": lambda value, _: torch.device(value["$device"]),
    "$bytes": lambda value, _: base64.b64decode(value["$bytes"]),
    "$path": lambda value, _: Path(value["$path"]),
    "$numpy": _decode_numpy,
    "$tensor": lambda value, source: source(value),
}
