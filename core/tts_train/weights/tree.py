"""The described contents of a file: bounded before anybody walks them, and filled once the tensors are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tts_train.weights.calls import Global, is_value
from tts_train.weights.claims import ClaimError, TensorClaim, Tree
from tts_train.weights.limits import Limits

if TYPE_CHECKING:
    from torch import Tensor

_OPEN = (-1, -1)
_DIFFERENT = "torch reads other contents than were described"


def check_tree(value: object, limits: Limits) -> None:
    """Refuse a tree that contains itself, is too deep, or is huge once its shared parts are written out.

    Raises:
        ClaimError: with which of them it is.
    """
    _weigh(value, limits.depth, limits, {})


def plain_tree(described: object) -> Tree:
    """Return a description that has passed `check_tree` as plain Python values and `TensorClaim`s."""
    if isinstance(described, dict):
        return {key: plain_tree(value) for key, value in described.items()}
    if isinstance(described, (list, tuple)):
        return type(described)(plain_tree(value) for value in described)
    return described.dtype if isinstance(described, Global) else described


def fill_tree(plain: Tree, loaded: object) -> Tree:
    """Return a plain description with its tensors taken from what torch loaded; everything else is as described.

    Raises:
        ClaimError: if torch loaded something else than was described.
    """
    if isinstance(plain, TensorClaim):
        return _matching(plain, loaded)
    if isinstance(plain, dict):
        if not isinstance(loaded, dict) or len(loaded) != len(plain):
            raise ClaimError(_DIFFERENT)
        return {key: fill_tree(value, loaded[key]) for key, value in plain.items()}
    if isinstance(plain, (list, tuple)):
        if not isinstance(loaded, (list, tuple)) or len(loaded) != len(plain):
            raise ClaimError(_DIFFERENT)
        return type(plain)(fill_tree(value, other) for value, other in zip(plain, loaded, strict=True))
    return plain


def _weigh(value: object, depth: int, limits: Limits, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return how many nodes ``value`` has when written out, and how many levels."""
    if not isinstance(value, (dict, list, tuple)):
        if not is_value(value):
            raise ClaimError("a function or a type where a value should be")
        return 1, 0
    weight, height = known.get(id(value), (0, 0))
    if not weight:
        if depth == 0:
            raise ClaimError(f"values more than {limits.depth} levels deep")
        known[id(value)] = _OPEN
        parts = [_weigh(part, depth - 1, limits, known) for part in _parts(value)]
        weight = 1 + sum(part for part, _ in parts)
        height = 1 + max((part for _, part in parts), default=0)
        known[id(value)] = (weight, height)
    if weight < 0:
        raise ClaimError("a value that contains itself")
    if height > depth or weight > limits.nodes:
        raise ClaimError(f"values more than {limits.depth} levels deep or more than {limits.nodes} in all")
    return weight, height


def _parts(value: dict[object, object] | Iterable[object]) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value


def _matching(described: TensorClaim, loaded: object) -> Tensor:
    import torch

    if (
        not isinstance(loaded, torch.Tensor)
        or tuple(loaded.shape) != described.shape
        or str(loaded.dtype) != f"torch.{described.dtype}"
    ):
        raise ClaimError(_DIFFERENT)
    return loaded.detach()
