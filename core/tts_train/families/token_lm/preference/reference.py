"""The log-probabilities of pairs under the network as it starts, by which a preference is measured.

They are computed once, before the first step, and are part of every checkpoint: a step then needs no second network and
no second forward. Only pairs that differ in every epoch are computed step by step.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tts_train.datasets.batches import in_order
from tts_train.errors import ConfigError
from tts_train.families.token_lm.preference.batch import sequence_logps
from tts_train.parallel.together import leads
from tts_train.progress import Progress

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from tts_train.contract.module import StageModule
    from tts_train.families.token_lm.module import TokenModule
    from tts_train.families.token_lm.network.network import TokenNetwork
    from tts_train.families.token_lm.preference.batch import PairBatch
    from tts_train.families.token_lm.preference.data import PairData
    from tts_train.families.token_lm.preference.pair_set import PairSet

_log = logging.getLogger(__name__)
_HASHES, _TABLES = "hashes", "logps"


@torch.no_grad()
def start_logps(network: TokenNetwork, batch: PairBatch) -> Tensor:
    """Return the log-probabilities (2 P,) of a batch's answers without dropout, with the softmax of training."""
    training = network.training
    # Dropout would make the reference differ from itself, and margins of equal networks would not be 0.
    network.eval()
    logps = sequence_logps(network(batch, tokenwise=True), batch)
    network.train(training)
    return logps


class StartLogps:
    """The log-probabilities of all pairs of a run under the network as it starts, by the name of their part."""

    def __init__(self) -> None:
        self._tables: dict[str, Tensor] = {}
        """(pairs, 2) better and worse take of each pair."""
        self._hashes: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._tables)

    def of(self, part: str, rows: Tensor) -> Tensor:
        """Return those (2 P,) of the pairs with these numbers (P,), in the order of a batch."""
        # On the rows' device, so that no step waits for a copy.
        table = self._tables[part] = self._tables[part].to(rows.device)
        return table[rows].flatten()

    def compute(self, module: StageModule, network: TokenNetwork, data: PairData) -> None:
        """Compute them, divided over the processes of a run; the same numbers whatever their number is."""
        for part, pairs in data.parts.items():
            self._tables[part] = _computed(module, network, data, pairs)
            self._hashes[part] = pairs.hash

    def state(self) -> dict[str, Any]:
        """Return them for a checkpoint."""
        return {_HASHES: dict(self._hashes), _TABLES: {part: table.cpu() for part, table in self._tables.items()}}

    def load(self, state: Mapping[str, Any], data: PairData) -> None:
        """Take them from a checkpoint.

        Raises:
            ConfigError: if the pairs are not those that they are of.
        """
        now = {part: pairs.hash for part, pairs in data.parts.items()}
        if now != state[_HASHES]:
            raise ConfigError(
                f"The pairs of {data.path} are not those that this run was begun with: the log-probabilities that "
                "they are compared with are those of the network as it began, which is gone. Put the pairs and the "
                "--data options back, or begin a new run: another --run_dir, with this run as --model.init_from."
            )
        # As they are: computed anew they would be those of the network as it is now.
        self._tables, self._hashes = dict(state[_TABLES]), now


def _computed(module: StageModule, network: TokenNetwork, data: PairData, pairs: PairSet) -> Tensor:
    """Return the log-probabilities (pairs, 2) of a part of the data."""
    trainer: Trainer = module.trainer
    # By length alone, so that they are those of no epoch and of any number of processes.
    batches = in_order(pairs.lengths, data.max_tokens)
    # Each process fills its own rows of zeros, and their sum is the whole.
    table = torch.zeros(len(pairs), 2, dtype=torch.float32, device=module.device)
    turns = range(trainer.global_rank, -(-len(batches) // trainer.world_size) * trainer.world_size, trainer.world_size)
    shown = Progress("Log-probabilities before training", len(turns)) if leads() else nullcontext()
    # Lightning validates in inference mode, whose tensors a training step could not use.
    with shown as progress, torch.inference_mode(False), module.training_precision():
        for turn in turns:
            # Processes that share a network call it equally often, whatever is left for each.
            rows = batches[turn % len(batches)]
            batch = module.transfer_batch_to_device(data.collate([pairs[row] for row in rows]), module.device, 0)
            logps = start_logps(network, batch)
            if turn < len(batches):
                table[rows] = logps.view(-1, 2).float()
            if progress is not None:
                progress.advance()
    # What FSDP gathers without gradients cannot be trained on.
    module.divide_again()
    if trainer.world_size > 1:
        added = trainer.strategy.reduce(table, reduce_op="sum")
        assert isinstance(added, Tensor)
        table = added
    return table


class StartNetwork:
    """The network of a run as it started, for what cannot be computed before the first step."""

    def __init__(self) -> None:
        # In a list, so that the frozen copy is neither trained nor saved: it is made again from init_from.
        self._frozen: list[TokenNetwork] = []

    def __bool__(self) -> bool:
        """Whether a copy is kept."""
        return bool(self._frozen)

    def keep(self, module: TokenModule, *, compared: str, instead: str) -> None:
        """Keep a frozen copy where everything is trained; adapters can be switched off.

        Args:
            module: With its network, as the run starts.
            compared: What is compared with it, as the beginning of a sentence.
            instead: What to do where this cannot be, as the end of one.

        Raises:
            ConfigError: if the network cannot be had again with these options.
        """
        assert module.network is not None
        if module.method != "full":
            if module.lora.train_embedding or module.lora.train_head:
                raise ConfigError(
                    f"{compared} compared with the network without its adapters, and --model.lora.train_embedding and "
                    f"train_head change that as well. Leave them out, or {instead}"
                )
            return
        if module.device_mesh is not None:
            raise ConfigError(
                f"{compared} compared with a frozen copy of the network, which is not sharded. Give --model.method "
                f"lora, or {instead}"
            )
        # In evaluation mode: with dropout the reference would differ from itself.
        self._frozen = [deepcopy(module.network).requires_grad_(False).eval()]
        _log.info("A frozen copy of the network is kept: %s compared with it.", compared[:1].lower() + compared[1:])

    @contextmanager
    def now(self, module: TokenModule) -> Iterator[TokenNetwork]:
        """Yield the network as it started; nothing that needs a gradient may be computed meanwhile."""
        assert module.network is not None
        if self._frozen:
            yield self._frozen[0].to(module.device)
            return
        with adapters_off(module.network):
            yield module.network
        module.divide_again()  # adapters are turned on again on the shards, not on gathered copies of them


@contextmanager
def adapters_off(network: nn.Module) -> Iterator[None]:
    """Let a network be its frozen base for a while; nothing that needs a gradient may be computed meanwhile."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
