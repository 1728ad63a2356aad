"""Networks of a released version, by its name."""

from __future__ import annotations

from tts_train.errors import ConfigError
from tts_train_gpt_sovits.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.sovits.discriminators import Critics
from tts_train_gpt_sovits.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.sovits.versions import SovitsVersion, find_version


def build_network(name: str, *, freeze_quantizer: bool = True) -> SovitsNetwork:
    """Return a fresh network of an adversarial version: v1, v2, v2Pro or v2ProPlus."""
    version = _of_kind(name, "gan")
    return SovitsNetwork(
        symbols=version.symbols,
        style_bins=version.style_bins,
        style=version.style,
        speaker=version.speaker,
        wave_channels=version.wave_channels,
        upsample_kernels=version.upsample_kernels,
        dropout=version.dropout,
        freeze_quantizer=freeze_quantizer,
    )


def build_critics(name: str) -> Critics:
    """Return fresh critics of an adversarial version."""
    return Critics(_of_kind(name, "gan").periods)


def build_flow_network(name: str) -> FlowSovitsNetwork:
    """Return a fresh network of a flow-matching version: v3 or v4."""
    version = _of_kind(name, "flow")
    return FlowSovitsNetwork(
        mel_per_feature=version.mel_per_feature,
        symbols=version.symbols,
        style_bins=version.style_bins,
        dropout=version.dropout,
    )


def _of_kind(name: str, kind: str) -> SovitsVersion:
    version = find_version(name)
    if version.kind != kind:
        said = "is trained by flow matching and has no critics" if version.kind == "flow" else "is adversarial"
        raise ConfigError(f"SoVITS {name} {said}; ask for one of the other kind.")
    return version
