"""The speaker encoder of a model's files, without reading the rest of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tts_train.contract import ConfigError
from tts_train.families.token_lm import TinyOptions
from tts_train.weights import from_hub
from tts_train_qwen3_tts.codec.files import read_config
from tts_train_qwen3_tts.networks.speaker import SpeakerConfig, SpeakerEncoder

TINY = "tiny"
PREFIX = "speaker_encoder."
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_ADVICE = "Give --speaker_encoder a Base model: a folder, a hub name or 'tiny'; or 'none' where speakers have names."


def load_speaker_encoder(source: str) -> SpeakerEncoder:
    """Load the speaker encoder of a Base model on the CPU in float32, in evaluation mode.

    Args:
        source: A folder, a hub name, or ``tiny`` for a small one with seeded weights, ``tiny-192`` for one whose
            vectors have so many numbers.

    Raises:
        ConfigError: if there is none, or it has other weights.
    """
    if is_tiny(source):
        _, _, width = source.partition("-")
        return _tiny(TinyOptions(hidden=int(width)) if width else TinyOptions())
    values = model_config(source).get("speaker_encoder_config")
    tensors = {name: tensor for file in _weights(source) for name, tensor in _tensors(file).items()}
    if not isinstance(values, dict) or not tensors:
        raise ConfigError(f"{source} has no speaker encoder, as only Base models have one. {_ADVICE}")
    encoder = SpeakerEncoder(SpeakerConfig.read(values))
    try:
        encoder.load_state_dict(tensors)
    except RuntimeError as error:
        why = str(error).replace("\n", " ")
        raise ConfigError(f"{source} has another speaker encoder than its config.json says: {why}") from error
    return encoder.requires_grad_(False).eval()


def model_config(source: str) -> dict[str, Any]:
    """Return what config.json of a model says.

    Raises:
        ConfigError: if there is none that can be read.
    """
    return read_config(_file(source, CONFIG))


def _file(source: str, name: str) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / name).is_file():
            raise ConfigError(f"{source} has no {name}. {_ADVICE}")
        return folder / name
    from huggingface_hub import hf_hub_download

    with from_hub(source, failed=f"No speaker encoder could be loaded from {source!r}:", advice=_ADVICE) as cached:
        return Path(hf_hub_download(source, name, local_files_only=cached))


def _weights(source: str) -> list[Path]:
    """Return the files that hold the encoder: one, or those of the parts that an index names."""
    folder = Path(source).expanduser()
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return [_file(source, WEIGHTS)]
    parts = read_config(folder / INDEX).get("weight_map")
    held = {str(part) for name, part in dict(parts or {}).items() if name.startswith(PREFIX)}
    return [_file(source, part) for part in sorted(held)]


def _tensors(file: Path) -> dict[str, Tensor]:
    """Return the speaker encoder's tensors of a file in float32; the others stay on the disk."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as stored:
            names = [name for name in stored.keys() if name.startswith(PREFIX)]  # noqa: SIM118 - no mapping
            return {name.removeprefix(PREFIX): stored.get_tensor(name).float() for name in names}
    except SafetensorError as error:
        raise ConfigError(f"{file} is no safetensors file: {error}. {_ADVICE}") from error


def is_tiny(source: str) -> bool:
    """Tell whether a speaker encoder is the small one that needs no files, of some width."""
    name, dash, width = source.partition("-")
    return name == TINY and (width.isdigit() if dash else True)


def _tiny(options: TinyOptions) -> SpeakerEncoder:
    from tts_train_qwen3_tts.networks.sizes import tiny_config

    encoder = SpeakerEncoder(SpeakerConfig.read(tiny_config(options).speaker_encoder_config or {}))
    generator = torch.Generator().manual_seed(0)
    for name, weight in sorted(encoder.named_parameters()):
        if name.endswith("bias"):
            nn.init.zeros_(weight)
        else:
            nn.init.normal_(weight, std=float(weight[0].numel()) ** -0.5, generator=generator)
    return encoder.requires_grad_(False).eval()
