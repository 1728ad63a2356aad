"""Networks of a released version, by its name, or of other sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.networks.sovits.adversarial import Critics
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.dit import Estimator
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.signal.versions import ESTIMATOR, find_kind

# Our arguments beside the released files' settings.
_SHARED = {
    "dropout": "p_dropout",
    "channels": "hidden_channels",
    "hidden": "filter_channels",
    "heads": "n_heads",
    "layers": "n_layers",
    "kernel": "kernel_size",
}
_GAN = {
    **_SHARED,
    "style": "gin_channels",
    "latent": "inter_channels",
    "wave_channels": "upsample_initial_channel",
    "rates": "upsample_rates",
    "upsample_kernels": "upsample_kernel_sizes",
    "block_kernels": "resblock_kernel_sizes",
    "dilations": "resblock_dilation_sizes",
}


def build_network(name: str, *, freeze_quantizer: bool = True, sizes: Mapping[str, Any] | None = None) -> SovitsNetwork:
    """Return a fresh network of an adversarial version: v1, v2, v2Pro or v2ProPlus.

    Args:
        name: The version.
        freeze_quantizer: Whether codebook and the projection before it stay as they are.
        sizes: The ``model`` table of a released file's settings; the released sizes of the version if None.

    Raises:
        ConfigError: if there is no such version, or no network of these sizes.
    """
    version = find_kind(name, "gan")
    arguments: dict[str, Any] = {
        "style": version.style,
        "wave_channels": version.wave_channels,
        "upsample_kernels": version.upsample_kernels,
        "dropout": version.dropout,
        **_arguments(sizes, _GAN),
    }
    try:
        return SovitsNetwork(
            symbols=version.symbols,
            style_bins=version.style_bins,
            speaker=version.speaker,
            freeze_quantizer=freeze_quantizer,
            **arguments,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"There is no SoVITS network of these sizes: {error}.") from error


def build_critics(name: str, *, shrink: int = 1) -> Critics:
    """Return fresh critics of an adversarial version, with ``shrink`` times fewer channels."""
    return Critics(find_kind(name, "gan").periods, shrink=shrink)


def build_flow_network(name: str, *, sizes: Mapping[str, Any] | None = None) -> FlowSovitsNetwork:
    """Return a fresh network of a flow-matching version: v3 or v4; ``sizes`` as for ``build_network``."""
    version = find_kind(name, "flow")
    arguments: dict[str, Any] = {"dropout": version.dropout, **_arguments(sizes, _SHARED)}
    estimator = (sizes or {}).get(ESTIMATOR)
    try:
        return FlowSovitsNetwork(
            mel_per_feature=version.mel_per_feature,
            symbols=version.symbols,
            style_bins=version.style_bins,
            estimator=None if estimator is None else Estimator(**estimator),
            **arguments,
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"There is no SoVITS network of these sizes: {error}.") from error


def _arguments(sizes: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: sizes[theirs] for ours, theirs in names.items() if theirs in sizes} if sizes else {}
