"""The SoVITS networks that training starts from: released files, own exports, training files, or small ones of chance.

In the small networks that ``tiny`` names every part is there, at sizes that train on a CPU in seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from tts_train.contract import ConfigError, DataError
from tts_train.nn import drawn_on_cpu
from tts_train.weights import TensorClaim, describe_torch
from tts_train_gpt_sovits.features.semantic import tiny_tokenizer
from tts_train_gpt_sovits.networks.sovits.adversarial import Critics
from tts_train_gpt_sovits.networks.sovits.build import build_critics, build_flow_network, build_network
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.dit import Estimator, EstimatorBlock
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.released import (
    Recognised,
    TrainingFile,
    WeightsFile,
    read_s2,
    read_training,
    recognise,
)
from tts_train_gpt_sovits.released.bases import base_file, base_names, s2_config
from tts_train_gpt_sovits.released.recognise import CONFIG_CLASSES
from tts_train_gpt_sovits.released.shapes import Shapes, critic_shapes, generator_shapes
from tts_train_gpt_sovits.released.sovits_names import EXPORT_OMITS, load_upstream
from tts_train_gpt_sovits.released.sovits_shapes import CRITIC_CHANNELS
from tts_train_gpt_sovits.signal.versions import ESTIMATOR, find_version

TINY = "tiny"
"""The source that makes a small network of chance."""
_PRO_STYLE = 32
_MODULATION_STD = 0.02

N = TypeVar("N", bound=SovitsNetwork | FlowSovitsNetwork)


@dataclass(frozen=True)
class TinySovitsOptions:
    """Sizes of the networks that ``init_from: tiny`` makes."""

    channels: int = 16
    """Channels of the encoders; a multiple of 4."""
    layers: int = 2
    """Layers of the text encoder, even."""
    critic_shrink: int = 16
    """How many times fewer channels the critics have: 1, 2, 4, 8 or 16."""

    def __post_init__(self) -> None:
        if self.channels < 4 or self.channels % 4 or self.layers < 2 or self.layers % 2:
            raise ConfigError(f"--model.tiny needs channels in fours and layers in twos; it is {self}.")
        if self.critic_shrink not in (1, 2, 4, 8, 16):
            raise ConfigError(f"--model.tiny.critic_shrink is 1, 2, 4, 8 or 16, not {self.critic_shrink}.")


def tiny_sizes(version: str, tiny: TinySovitsOptions) -> dict[str, Any]:
    """Return the ``model`` table of settings of a tiny network."""
    row = find_version(version)
    sizes: dict[str, Any] = {
        **s2_config(version)["model"],
        "inter_channels": tiny.channels,
        "hidden_channels": tiny.channels,
        "filter_channels": 2 * tiny.channels,
        "n_layers": tiny.layers,
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3, 5]],
        # Three steps instead of five, with the same product: a code is still two frames of 640 samples.
        "upsample_rates": [10, 8, 8],
        "upsample_initial_channel": 4 * tiny.channels,
        "upsample_kernel_sizes": [20, 16, 16],
    }
    if row.speaker:
        sizes["gin_channels"] = _PRO_STYLE
    if row.kind == "flow":
        sizes[ESTIMATOR] = {"width": 32, "depth": 2, "heads": 2, "head_width": 16, "content_blocks": 1}
    return sizes


def with_tiny_semantics(network: N) -> N:
    """Give a network the projection and the codebook of the tiny semantic tokenizer, and return it."""
    tokenizer = tiny_tokenizer()
    network.feature_projection.load_state_dict(tokenizer.feature_projection.state_dict())
    network.quantizer.load_state_dict(tokenizer.quantizer.state_dict())
    return network


def let_gradients_through(estimator: Estimator) -> None:
    """Draw the weights that a fresh estimator has as 0, in place, from torch's default stream.

    With gates and output of 0 no gradient passes through a block. Training the whole estimator mends that in a step or
    two; below adapters it stays frozen, and nothing at all would be trained.
    """
    zeroed = [module.modulation for module in estimator.modules() if isinstance(module, EstimatorBlock)]
    for layer in (*zeroed, estimator.modulation, estimator.output):
        nn.init.normal_(layer.weight, std=_MODULATION_STD)


FRESH = "fresh"
"""The source of critics that have seen nothing."""
DEFAULT_VERSION = "v2"

Network: TypeAlias = SovitsNetwork | FlowSovitsNetwork

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadedGenerator:
    """What a run starts from."""

    network: Network
    """In float32, on the CPU."""
    version: str
    sizes: Mapping[str, Any]
    """The ``model`` table of upstream's settings, by which the network can be built again."""
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    """State of upstream's optimiser, from a ``G_*.pth``; else empty."""
    epochs: int = 0
    """Epochs that upstream had done."""


@dataclass(frozen=True, kw_only=True)
class LoadedCritics:
    """The critics that a run starts from; fields as in ``LoadedGenerator``."""

    network: Critics
    optimizer: Mapping[str, Any] = field(default_factory=dict)


def base_generator(
    source: str,
    *,
    version: str | None = None,
    tiny: TinySovitsOptions = TinySovitsOptions(),
    freeze_quantizer: bool = True,
    base_for_missing: str | None = None,
    speaking: bool = False,
) -> LoadedGenerator:
    """Return the generator that ``source`` names.

    Args:
        source: A released version's name, a SoVITS file, ``G_*.pth``, or ``tiny``.
        version: The version; None takes that of the source. Needed where a file does not tell v3 from v4.
        tiny: Sizes of ``tiny``.
        freeze_quantizer: Whether codebook and the projection before it stay as they are.
        base_for_missing: Whole file of the same version from which the posterior encoder comes where the source has
            none, as exports for inference.
        speaking: Whether it is to speak only, so that nothing else need be there.

    Raises:
        ConfigError: if the source is of another version, or lacks what training needs.
        DataError: if it is no such file, or its tensors do not fit; they are listed.
        UnsafeFileError: if it could run code.
    """
    if source == TINY:
        return _tiny_generator(version or DEFAULT_VERSION, tiny, freeze_quantizer)
    file = base_file(source, "s2G")
    if speaking:
        return _to_speak(source, file, version)
    return _from_file(source, file, version, freeze_quantizer, base_for_missing)


def base_critics(source: str, *, version: str, shrink: int = 1) -> LoadedCritics:
    """Return the critics that ``source`` names.

    Args:
        source: A released version's name, a critics' file, ``D_*.pth``, ``fresh`` or ``tiny``.
        version: The generator's version.
        shrink: How many times fewer channels fresh critics have.

    Raises:
        See `base_generator`.
    """
    if source in (TINY, FRESH):
        with drawn_on_cpu(0):
            return LoadedCritics(network=build_critics(version, shrink=shrink))
    file = base_file(source, "s2D")
    shrink = _shrink_of(file)
    critics, shapes = build_critics(version, shrink=shrink), critic_shapes(version, shrink=shrink)
    if recognise(file, version=version).kind == "s2D_training":
        training = read_training(file, version=version, shapes=shapes)
        load_upstream(critics, training.weights)
        return LoadedCritics(network=critics, optimizer=training.optimizer)
    load_upstream(critics, read_s2(file, version=version, shapes=shapes).weights)
    return LoadedCritics(network=critics)


def planned_generator(source: str, *, version: str | None, freeze_quantizer: bool = True) -> LoadedGenerator | None:
    """Return on ``meta`` what ``load_generator`` reads of a released version; None where ``source`` is no such name.

    Raises:
        ConfigError: if ``version`` is another.
    """
    if source not in base_names("s2G") or Path(source).exists():
        return None
    if version not in (None, source):
        raise ConfigError(f"{source} is of {source}, and --model.version says {version}. Leave --model.version out.")
    sizes = s2_config(source)["model"]
    with torch.device("meta"):
        if find_version(source).kind == "flow":
            return LoadedGenerator(network=build_flow_network(source, sizes=sizes), version=source, sizes=sizes)
        network = build_network(source, sizes=sizes, freeze_quantizer=freeze_quantizer)
    return LoadedGenerator(network=network, version=source, sizes=sizes)


def planned_critics(version: str) -> LoadedCritics:
    """Return the critics of an adversarial version on ``meta``."""
    with torch.device("meta"):
        return LoadedCritics(network=build_critics(version))


def optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], *, source: str) -> None:
    """Load what upstream's optimiser had gathered; rates stay as they are configured.

    Raises:
        DataError: if it was of other parameters.
    """
    own = optimizer.state_dict()["param_groups"]
    # Only numbers can be compared, for a torch optimiser's state has no names.
    counts = [[len(group["params"]) for group in groups] for groups in (own, state["param_groups"])]
    if counts[0] != counts[1]:
        raise DataError(f"The optimiser in {source} is of {counts[1]} parameters, and {counts[0]} are trained here.")
    optimizer.load_state_dict({"state": state["state"], "param_groups": own})


def _from_file(
    source: str, path: Path, version: str | None, freeze_quantizer: bool, base_for_missing: str | None
) -> LoadedGenerator:
    found = recognise(path, version=version)
    check_version(source, found.version, version)
    if found.kind not in ("s2G", "s2G_training"):
        raise ConfigError(f"{source} is {found.kind} of {found.version}; --model.init_from needs a generator.")
    sizes = {**s2_config(found.version)["model"], **_sizes_in(found)}
    network, shapes = _build(found.version, sizes, freeze_quantizer), generator_shapes(found.version, sizes)
    logger.info("SoVITS %s from %s.", found.version, source)
    if found.kind == "s2G_training":
        training = read_training(path, version=version, shapes=shapes)
        load_upstream(network, training.weights)
        state, epochs = training.optimizer, training.epochs
        return LoadedGenerator(network=network, version=found.version, sizes=sizes, optimizer=state, epochs=epochs)
    weights = dict(read_s2(path, version=version, shapes=shapes).weights)
    if not found.complete:
        # Asked for and never guessed: upstream starts such a posterior encoder from chance, and only prints the
        # missing names (s2_train.py).
        weights |= _missing(source, found.version, base_for_missing, shapes)
    load_upstream(network, weights)
    return LoadedGenerator(network=network, version=found.version, sizes=sizes)


def _shrink_of(file: Path) -> int:
    """Return how many times fewer channels than the released ones a file's critics have."""
    content = describe_torch(file, head=recognise(file).head, dict_classes=CONFIG_CLASSES)
    weights = content.get("weight") or content.get("model") if isinstance(content, dict) else None
    claim = weights.get("discriminators.0.convs.5.bias") if isinstance(weights, dict) else None
    # Small critics are told by the width of their last layer.
    channels = claim.shape[0] if isinstance(claim, TensorClaim) and claim.shape else CRITIC_CHANNELS
    return max(1, CRITIC_CHANNELS // max(channels, 1))


def _to_speak(source: str, path: Path, version: str | None) -> LoadedGenerator:
    """Return a generator whose posterior encoder, which only training uses, may be of chance."""
    found = recognise(path, version=version)
    check_version(source, found.version, version)
    if found.kind not in ("s2G", "s2G_training"):
        raise ConfigError(f"{source} is {found.kind} of {found.version}, and a generator is wanted to speak.")
    sizes = {**s2_config(found.version)["model"], **_sizes_in(found)}
    network, shapes = _build(found.version, sizes, freeze_quantizer=True), generator_shapes(found.version, sizes)
    read = read_training if found.kind == "s2G_training" else read_s2
    file: TrainingFile | WeightsFile = read(path, version=version, shapes=shapes)
    load_upstream(network, file.weights, omitted=EXPORT_OMITS)
    return LoadedGenerator(network=network, version=found.version, sizes=sizes)


def _missing(source: str, version: str, base: str | None, shapes: Shapes) -> dict[str, Tensor]:
    """Return the posterior encoder of another file, for one that was written for inference."""
    if base is None:
        raise ConfigError(
            f"{source} was written for inference and lacks the posterior encoder, without which training starts half "
            f"from chance. Give a whole file of the same version: --model.base_for_missing {version}, or start from "
            "the run or its `full` export."
        )
    path = base_file(base, "s2G")
    found = recognise(path, version=version)
    if found.version != version or not found.complete:
        raise ConfigError(f"--model.base_for_missing {base} must be a whole file of {version}; it is {found.version}.")
    read = read_training if found.kind == "s2G_training" else read_s2
    file: TrainingFile | WeightsFile = read(path, version=version, shapes=shapes)
    logger.warning("The posterior encoder comes from %s, since %s has none.", base, source)
    # Only the part that the export lacks; everything else is the fine-tuned voice's own.
    return {name: tensor for name, tensor in file.weights.items() if name.startswith(EXPORT_OMITS)}


def _sizes_in(found: Recognised) -> dict[str, Any]:
    """Return the sizes that a file says it has, without reading its tensors; empty where it does not say."""
    content = describe_torch(found.path, head=found.head, dict_classes=CONFIG_CLASSES)
    config = content.get("config") if isinstance(content, dict) else None
    model = config.get("model") if isinstance(config, dict) else None
    return dict(model) if isinstance(model, dict) else {}


def _build(version: str, sizes: Mapping[str, Any], freeze_quantizer: bool) -> Network:
    if find_version(version).kind == "flow":
        return build_flow_network(version, sizes=sizes)
    return build_network(version, sizes=sizes, freeze_quantizer=freeze_quantizer)


def _tiny_generator(version: str, tiny: TinySovitsOptions, freeze_quantizer: bool) -> LoadedGenerator:
    sizes = tiny_sizes(version, tiny)
    with drawn_on_cpu(0):
        # The codebook that `--models tiny` prepares with: data and network must mean the same by a code.
        network = with_tiny_semantics(_build(version, sizes, freeze_quantizer))
        if isinstance(network, FlowSovitsNetwork):
            let_gradients_through(network.matching.estimator)
    return LoadedGenerator(network=network, version=version, sizes=sizes)


def check_version(source: str, found: str, wanted: str | None) -> None:
    """Refuse a source of another version than the one that is wanted."""
    if wanted is not None and wanted != found:
        raise ConfigError(f"{source} is of {found}, and --model.version says {wanted}. Leave --model.version out.")
