"""Hooks that hand a parameter to its optimiser as soon as backward has its whole gradient."""

from __future__ import annotations

import functools
import weakref
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

# A parameter's newest optimiser steps it; one of an earlier fit of the same module must not step it too.
_hooks = WeakTensorKeyDictionary()


class TakesGradients(Protocol):
    """What a hook calls."""

    def receive(self, parameter: nn.Parameter) -> None:
        """Use the gradient that ``parameter`` has just got."""


def call_on_gradient(parameter: nn.Parameter, optimizer: TakesGradients) -> None:
    """Call ``optimizer.receive`` for each gradient of ``parameter``, in place of what an earlier call asked for.

    The hook keeps no optimiser alive.
    """
    earlier: RemovableHandle | None = _hooks.get(parameter)  # type: ignore[no-untyped-call]
    if earlier is not None:
        earlier.remove()
    hook = functools.partial(_on_gradient, weakref.ref(optimizer))
    _hooks[parameter] = parameter.register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]


@torch.no_grad()
def _on_gradient(optimizer: weakref.ref[TakesGradients], parameter: Tensor) -> None:
    owner = optimizer()
    if owner is not None:
        assert isinstance(parameter, nn.Parameter)
        owner.receive(parameter)
