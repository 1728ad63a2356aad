"""Released networks without their files, for ``tts-train plan``: their sizes go with their names."""

from __future__ import annotations

from pathlib import Path

import torch

from tts_train.errors import ConfigError
from tts_train_gpt_sovits.networks.sovits.build import build_critics, build_flow_network, build_network
from tts_train_gpt_sovits.released.bases import base_names
from tts_train_gpt_sovits.released.configs import s2_config
from tts_train_gpt_sovits.signal.versions import find_version
from tts_train_gpt_sovits.starts.sovits_base import LoadedCritics, LoadedGenerator


def generator_shapes(source: str, *, version: str | None, freeze_quantizer: bool = True) -> LoadedGenerator | None:
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


def critics_shapes(version: str) -> LoadedCritics:
    """Return the critics of an adversarial version on ``meta``."""
    with torch.device("meta"):
        return LoadedCritics(network=build_critics(version))
