"""The small networks of chance that ``tiny`` names: every part is there, at sizes that train on a CPU in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.features.semantic import tiny_tokenizer
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.dit import Estimator, EstimatorBlock
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.released.configs import s2_config
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
