"""A step of generation recorded as a CUDA graph: one launch in place of hundreds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from tts_train.nn.devices import side_stream

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

READING = "reading"
"""Purpose of the stream on which the host reads what steps have drawn."""

logger = logging.getLogger(__name__)


class StepGraph:
    """Runs a step that changes tensors in place: as it is at first, from then on as a graph that is replayed.

    Args:
        device: Where it runs.
        enabled: Whether it may be recorded; else every step runs as it is.
    """

    def __init__(self, device: torch.device, *, enabled: bool) -> None:
        self._device, self._enabled = device, enabled
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warm = False

    def run(self, step: Callable[[], None]) -> None:
        """Do ``step``, which is the same one until :meth:`drop`.

        Before it is recorded it has run once, so that no library is set up while it is recorded.
        """
        # Not in the first step: libraries that set themselves up cannot do so while they are recorded.
        if self._enabled and self._warm and self._graph is None:
            self._record(step)
        if self._graph is None:
            step()
        else:
            self._graph.replay()
        self._warm = True

    def drop(self) -> None:
        """Forget the step, once the card has done with the graph and with what is read behind it.

        A graph's memory is of the stream that it was recorded on, and growing segments are given back without a wait
        for any other stream.
        """
        if self._graph is not None:
            torch.cuda.current_stream(self._device).synchronize()
            side_stream(self._device, READING).synchronize()
            self._graph = None
        self._warm = False

    def _record(self, step: Callable[[], None]) -> None:
        graph, before = torch.cuda.CUDAGraph(), _Before(self._device)
        cached = torch.is_autocast_cache_enabled()
        # A cast weight that autocast keeps would be freed behind the graph's back.
        torch.set_autocast_cache_enabled(False)
        try:
            # Other threads pin memory for data and wait for copies meanwhile, which recording need not forbid them.
            asked: dict[str, Any] = {"pool": before.pool, "stream": side_stream(self._device, "recording")}
            asked["capture_error_mode"] = "thread_local"
            with torch.cuda.device(self._device), torch.cuda.graph(graph, **asked):
                step()
            self._graph = graph
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            logger.warning("Generation runs without a CUDA graph, several times slower: %s", error)
            # Tried once: what cannot be recorded now could not be in the next step either.
            self._enabled = False
            before.restore()
        finally:
            torch.set_autocast_cache_enabled(cached)


class _Before:
    """What torch leaves changed when recording cannot be ended: the stream, the allocator, and the generator.

    The generator would refuse to draw anything more, and memory that other streams have used would not be freed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.current_stream(device)
        self._generator = torch.cuda.default_generators[device.index]
        self._state = self._generator.clone_state()

    def restore(self) -> None:
        torch.cuda.set_stream(self._stream)
        self._generator.graphsafe_set_state(self._state)
        with suppress(RuntimeError):  # where recording did end, so did this
            torch._C._cuda_endAllocateToPool(self._device.index, self.pool)


def can_be_recorded(lm: LlamaForCausalLM) -> bool:
    """Tell whether a step waits for nothing; 8-bit products of bitsandbytes look at each input for outliers."""
    waits = any(type(module).__name__ == "Linear8bitLt" for module in lm.modules())
    if waits:
        logger.info("Generation over an 8-bit base runs without a CUDA graph, several times slower.")
    return not waits
