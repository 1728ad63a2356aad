"""bitsandbytes' paged AdamW whose states stay paged where a run continues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tts_train.optim.options import OptimizerOptions
from tts_train.optim.streamed.rules import import_bitsandbytes

_PAGED = ("state1", "state2")


def paged_adamw8bit(groups: list[dict[str, Any]], options: OptimizerOptions) -> Optimizer:
    """Build ``PagedAdamW8bit``: its states are in managed memory, which leaves the card when that is full.

    A checkpoint's states are ordinary tensors, and trainers move what an optimiser has restored to the card; so they
    are put into managed memory again, and stay there.
    """
    base: Any = import_bitsandbytes(options.name).optim.PagedAdamW8bit

    # Made here, since its base is there only where bitsandbytes is.
    class Paged(base):  # type: ignore[misc]
        def load_state_dict(self, state_dict: dict[str, Any], move_to_device: bool = True) -> None:
            # Else bitsandbytes itself puts 8-bit states on the card, where a run that needs paging has no room.
            super().load_state_dict(state_dict, move_to_device=False)
            for parameter, states in self.state.items():
                if isinstance(parameter, Tensor):
                    self.state[parameter] = PagedStates(self._placed(parameter, states))

        @torch.no_grad()
        def _placed(self, parameter: Tensor, states: Mapping[str, Any]) -> dict[str, Any]:
            placed = {}
            for name, value in states.items():
                if name in _PAGED:
                    placed[name] = self.get_state_buffer(parameter, dtype=value.dtype)
                    placed[name].copy_(value)
                else:
                    placed[name] = value.to(parameter.device) if isinstance(value, Tensor) else value
            return placed

    # Lightning's summary and callbacks show the class's name.
    Paged.__name__ = base.__name__
    optimizer: Optimizer = Paged(groups, lr=options.lr, betas=options.betas, eps=options.eps)
    return optimizer


class PagedStates(dict[str, Any]):
    """One parameter's states: what is paged is not replaced by a copy of it that lies on a card."""

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401 - whatever a state is
        if not getattr(self.get(name), "is_paged", False):
            super().__setitem__(name, value)
