"""What a token of generation takes on a card, counted without one: one step of a batch on shapes.

The step is the loop's own (``tts_train.families.token_lm.decoding.decoding``): the network over a cache of fixed size,
and the draw. It is bound by reading weights and cache once. As one CUDA graph the host launches once a step; the eager
loop launches each kernel. The weights are bfloat16, and all of the cache's 1,024 places count as read. What was drawn
is read by the host behind the step and idles nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tts_train.families.token_lm.decoding.memory import decoding_on_shapes
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.memory.cards import Card
from tts_train.memory.step.ledger import Estimate, StepLedger, estimate
from tts_train.nn.devices import planning_for
from tts_train_orpheus import layout
from tts_train_orpheus.model import ORPHEUS, tiny_config

PROMPT, TOKENS = 40, 984
"""Ids of the prompt and most ids behind it: a cache of 1,024 places."""
GRAPH_SECONDS = 20e-6
"""Host time to replay one CUDA graph."""


def counted_step(batch: int, card: Card, size: TinyOptions | None = None) -> Estimate:
    """Return what one step of ``batch`` utterances takes: all kernels one behind the other, and launching them."""
    ledger = StepLedger(layout.VOCAB_SIZE)
    config = ORPHEUS.released_config(ORPHEUS.base) if size is None else tiny_config(size)
    with planning_for("cuda"), FakeTensorMode(), torch.no_grad():
        decoding = decoding_on_shapes(layout.LAYOUT, config, rows=batch, prompt=PROMPT, tokens=TOKENS)
        decoding.read()
        with ledger.modules_known(), _counting(ledger):
            decoding.advance(PROMPT + TOKENS)
    return estimate(ledger.counts, card)


def generation_figures(batch: int, step: Estimate) -> dict[str, Any]:
    """Return tokens a second of the whole batch, as one graph and as an eager loop."""
    graph = max(step.device_seconds, GRAPH_SECONDS)
    eager = max(step.device_seconds, step.host_seconds) + step.wait_seconds
    return {
        "tokens": batch,
        "tokens_per_s": round(batch / graph, 1),
        "tokens_per_s_eager": round(batch / eager, 1),
    }


@contextmanager
def _counting(ledger: StepLedger) -> Iterator[None]:
    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            ledger.note(func, args, kwargs or {}, out, optimizing=False)
            return out

    with Mode():
        yield
