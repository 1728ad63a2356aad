"""A codec's folder, ``speech_tokenizer/`` of a model: found, read without running anything, checked, and written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tts_train.contract import ConfigError
from tts_train.disk import staged_file, write_json
from tts_train.weights import from_hub, read_safetensors
from tts_train_qwen3_tts.codec.codec import QwenCodec
from tts_train_qwen3_tts.codec.decoder import SoundDecoder
from tts_train_qwen3_tts.codec.encoder import SoundEncoder
from tts_train_qwen3_tts.codec.sizes import DecoderSizes, EncoderSizes, check_layout, read_sizes

FOLDER = "speech_tokenizer"
CONFIG, WEIGHTS, PREPROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
FILES = (CONFIG, "configuration.json", WEIGHTS, PREPROCESSOR)
_ADVICE = "Give a folder, a hub name such as Qwen/Qwen3-TTS-Tokenizer-12Hz, or 'tiny'."
_HEARD = {
    "feature_extractor_type": "EncodecFeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 24000,
}
"""preprocessor_config.json, without which upstream loads nothing."""


def find_codec(source: str) -> Path:
    """Return the folder of a codec: ``source``, its ``speech_tokenizer``, or either of a hub name.

    Raises:
        ConfigError: if there is none.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _download(source)
    return folder / FOLDER if (folder / FOLDER).is_dir() else folder


def read_codec(folder: Path, *, window: bool) -> QwenCodec:
    """Read a codec in float32.

    Raises:
        ConfigError: if a file is missing, or holds another network than its configuration says.
        UnsafeFileError: if the weights are no safetensors file.
    """
    config = read_config(folder / CONFIG)
    check_layout(config, str(folder / CONFIG))
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(f"{folder} has no {WEIGHTS}. Download the folder again. {_ADVICE}")
    # Without memory until the weights are there: drawing first weights would take seconds.
    encoder, decoder = build_networks(config, str(folder / CONFIG), window=window, device="meta")
    both = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    _fill(both, read_safetensors(folder / WEIGHTS)[0], folder / WEIGHTS)
    return QwenCodec(encoder, decoder, config=config, folder=folder)


def build_networks(
    config: Mapping[str, Any], where: str, *, window: bool, device: str
) -> tuple[SoundEncoder, SoundDecoder]:
    """Return both networks with first weights, as a configuration says.

    Raises:
        ConfigError: if it does not say all sizes; ``where`` names it.
    """
    of_encoder = read_sizes(EncoderSizes, config.get("encoder_config") or {}, f"{where} (encoder_config)")
    of_decoder = read_sizes(DecoderSizes, config.get("decoder_config") or {}, f"{where} (decoder_config)")
    with torch.device(device):
        return SoundEncoder(of_encoder, window=window), SoundDecoder(of_decoder)


def codec_tensors(codec: QwenCodec) -> dict[str, Tensor]:
    """Return the tensors of both networks, on the CPU, by their released names."""
    both = nn.ModuleDict({"encoder": codec.encoder, "decoder": codec.decoder})
    return {name: value.detach().cpu().contiguous() for name, value in both.state_dict().items()}


def write_codec(codec: QwenCodec, folder: Path) -> None:
    """Write a codec as a ``speech_tokenizer`` folder that upstream loads; one that was read is passed on as it is.

    Raises:
        DiskError: if it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if codec.folder is None:
        from safetensors.torch import save_file

        write_json(folder / CONFIG, dict(codec.config))
        with staged_file(folder / WEIGHTS) as path:
            save_file(codec_tensors(codec), path, metadata={"format": "pt"})
    else:
        for name in FILES:
            if (codec.folder / name).is_file():
                _pass_on((codec.folder / name).resolve(), folder / name)
    # Sources need not have it, as nothing here reads it.
    if not (folder / PREPROCESSOR).is_file():
        write_json(folder / PREPROCESSOR, _HEARD)


def _pass_on(file: Path, target: Path) -> None:
    with staged_file(target) as path:
        try:
            # Small files are edited now and then, and an edit must not reach back.
            if file.stat().st_size > 1 << 16:
                os.link(file, path)
                return
        except OSError:  # another file system, or one without links
            path.unlink(missing_ok=True)
        shutil.copyfile(file, path)


def _fill(codec: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    due = {name: list(value.shape) for name, value in codec.state_dict().items()}
    other = sorted(name for name in due.keys() & weights.keys() if list(weights[name].shape) != due[name])
    faults = {
        "missing": sorted(due.keys() - weights.keys()),
        "unknown": sorted(weights.keys() - due.keys()),
        "of another shape": [f"{name}, {list(weights[name].shape)} instead of {due[name]}" for name in other],
    }
    if found := [f"{len(n)} tensors {what} (the first is {n[0]})" for what, n in faults.items() if n]:
        raise ConfigError(f"{path} does not fit the {CONFIG} beside it: {', '.join(found)}. Download both again.")
    codec.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)


def read_config(path: Path) -> dict[str, Any]:
    """Return what a config.json says.

    Raises:
        ConfigError: if it is missing or cannot be read.
    """
    if not path.is_file():
        raise ConfigError(f"There is no {path}, so no codec can be read from that folder. {_ADVICE}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Download it again.") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} must hold an object. Download it again.")
    return config


def _download(source: str) -> Path:
    from huggingface_hub import snapshot_download

    with from_hub(source, failed=f"No codec could be loaded from {source!r}:", advice=_ADVICE) as cached:
        # First what a model has of it, so that the model's own weights are not fetched.
        inner = [f"{FOLDER}/{name}" for name in FILES]
        folder = Path(snapshot_download(source, allow_patterns=[CONFIG, *inner], local_files_only=cached))
        config = folder / CONFIG
        if (folder / FOLDER).is_dir() or (config.is_file() and read_config(config).get("model_type") == "qwen3_tts"):
            return folder
        return Path(snapshot_download(source, allow_patterns=list(FILES), local_files_only=cached))
