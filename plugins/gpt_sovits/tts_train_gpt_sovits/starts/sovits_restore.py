"""Networks from what a run of ours kept: to speak, to export, or to be the base of the next run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tts_train.contract import Checkpoint, ConfigError, DataError, is_run, open_checkpoint
from tts_train_gpt_sovits.networks.sovits.adversarial import Critics
from tts_train_gpt_sovits.networks.sovits.build import build_critics, build_flow_network, build_network
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.signal.versions import find_version
from tts_train_gpt_sovits.starts.adapters import adapt_estimator, merge_estimator, trained_names
from tts_train_gpt_sovits.starts.sovits_base import (
    TINY,
    LoadedCritics,
    LoadedGenerator,
    TinySovitsOptions,
    base_critics,
    base_generator,
    check_version,
)

DESCRIPTION = "sovits_config"
"""The key of a checkpoint that says what its networks are, in plain values."""
NETWORK, CRITICS = "network.", "critics."
"""What stands before the networks' names in a module's ``state_dict``."""


@dataclass(frozen=True, kw_only=True)
class TrainedSovits:
    """What a checkpoint of the stage holds, on the CPU in float32."""

    network: SovitsNetwork | FlowSovitsNetwork
    version: str
    sizes: Mapping[str, Any]
    """The ``model`` table of upstream's settings."""
    lora_rank: int | None
    """Rank of the adapters that are in the network; None without."""
    step: int
    """Generator steps."""
    shrink: int
    weights: Mapping[str, Tensor]
    """The module's whole ``state_dict``."""

    def critics(self) -> Critics:
        """Return the critics.

        Raises:
            DataError: if the run had none.
        """
        critics = build_critics(self.version, shrink=self.shrink)
        _fill(critics, self.weights, CRITICS)
        return critics


def describe(
    version: str, sizes: Mapping[str, Any], *, shrink: int = 1, lora_rank: int | None = None
) -> dict[str, Any]:
    """Return what ``load_run`` builds networks by, for ``DESCRIPTION``."""
    return {"version": version, "model": dict(sizes), "critic_shrink": shrink, "lora_rank": lora_rank}


def load_run(source: Path | Checkpoint, *, freeze_quantizer: bool = True, merged: bool = True) -> TrainedSovits:
    """Rebuild the networks of a run's checkpoint.

    Args:
        source: A run directory, one of its checkpoints, or an opened one.
        freeze_quantizer: Whether the network's quantizer stays as it is in training.
        merged: Whether adapters become part of the network; else they stay beside it, as upstream's LoRA files.

    Raises:
        DataError: if there is none, it is damaged, or it belongs to another backend or stage.
    """
    checkpoint = source if isinstance(source, Checkpoint) else open_checkpoint(source)
    about = checkpoint.state(DESCRIPTION).get(DESCRIPTION)
    if about is None:
        card = checkpoint.card
        raise DataError(f"{checkpoint.path} is a run of {card.backend} {card.stage}, and one of SoVITS is wanted.")
    weights, version, rank = checkpoint.weights(), about["version"], about["lora_rank"]
    network: SovitsNetwork | FlowSovitsNetwork
    # A run of adapters stores no base: it is read again from where the run took it.
    if rank is not None:
        network = _adapted(checkpoint, version, rank)
        _fill(network, weights, NETWORK, names=trained_names(network))
        if merged:
            merge_estimator(network)
            rank = None
    else:
        if find_version(version).kind == "flow":
            network = build_flow_network(version, sizes=about["model"])
        else:
            network = build_network(version, sizes=about["model"], freeze_quantizer=freeze_quantizer)
        _fill(network, weights, NETWORK)
    return TrainedSovits(
        network=network,
        version=version,
        sizes=about["model"],
        lora_rank=rank,
        step=checkpoint.step,
        shrink=about["critic_shrink"],
        weights=weights,
    )


def load_generator(
    source: str,
    *,
    version: str | None = None,
    tiny: TinySovitsOptions = TinySovitsOptions(),  # noqa: B008 - frozen
    freeze_quantizer: bool = True,
    base_for_missing: str | None = None,
    speaking: bool = False,
) -> LoadedGenerator:
    """Return the generator that ``--model.init_from`` names, a run of ours included; see `base_generator`."""
    path = Path(source).expanduser()
    if is_run(path):
        run = load_run(path, freeze_quantizer=freeze_quantizer)
        check_version(source, run.version, version)
        return LoadedGenerator(network=run.network, version=run.version, sizes=run.sizes)
    return base_generator(
        source,
        version=version,
        tiny=tiny,
        freeze_quantizer=freeze_quantizer,
        base_for_missing=base_for_missing,
        speaking=speaking,
    )


def load_critics(source: str, *, version: str, shrink: int = 1) -> LoadedCritics:
    """Return the critics that ``source`` names, those of a run of ours included; see `base_critics`."""
    path = Path(source).expanduser()
    if is_run(path):
        run = load_run(path)
        critics = run.critics()
        if [each.shape for each in critics.parameters()] != [
            each.shape for each in build_critics(version, shrink=critics.shrink).parameters()
        ]:
            raise ConfigError(f"The critics of {source} are of {run.version}, and {version} is trained.")
        return LoadedCritics(network=critics)
    return base_critics(source, version=version, shrink=shrink)


def critics_for(init_from: str, version: str) -> str:
    """Return the critics' source that goes with a generator's: those it was trained with, else the released ones."""
    path = Path(init_from).expanduser()
    if init_from == TINY or is_run(path):
        return init_from
    # Upstream's training files, and its released ones and our `full` export.
    names = {"G_": "D_", "s2G": "s2D"}
    named = [path.name.replace(ours, theirs, 1) for ours, theirs in names.items() if path.name.startswith(ours)]
    return next((str(path.with_name(name)) for name in named if path.with_name(name).is_file()), version)


def _adapted(checkpoint: Checkpoint, version: str, rank: int) -> FlowSovitsNetwork:
    """Return the base that a run's adapters sit on, with fresh ones."""
    options = checkpoint.card.options("model", "init_from", names=(TINY,))
    source, tiny = options.get("init_from", TINY), TinySovitsOptions(**(options.get("tiny") or {}))
    network = load_generator(source, version=version, tiny=tiny).network
    if not isinstance(network, FlowSovitsNetwork):
        raise DataError(f"{checkpoint.path} has adapters, and its base {source} is of another kind.")
    adapt_estimator(network, rank)
    return network


def _fill(
    network: nn.Module, weights: Mapping[str, Tensor], prefix: str, *, names: Collection[str] | None = None
) -> None:
    given = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    wanted = {name: each for name, each in network.state_dict().items() if names is None or name in names}
    wrong = sorted(given.keys() ^ wanted.keys()) or [
        name for name, tensor in wanted.items() if given[name].shape != tensor.shape
    ]
    if wrong:
        raise DataError(f"The checkpoint does not fit this network: {len(wrong)} names differ, first {wrong[0]}.")
    # Checked above, name by name; not strict, since a run with adapters stores no frozen base.
    network.load_state_dict(given, strict=False)
