"""The released networks that training and preparation start from, by name or path, and each version's settings."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from tts_train.contract import ConfigError, DataError
from tts_train.weights import from_hub
from tts_train_gpt_sovits.signal.versions import find_version

REPOSITORY = "lj1995/GPT-SoVITS"
"""Where the released files lie, by the same names as in upstream's ``GPT_SoVITS/pretrained_models``."""
RELEASED = "released"
"""The source that stands for the one released speech, text or speaker network."""

FileKind: TypeAlias = Literal["s1", "s2G", "s2D", "speaker"]
FolderKind: TypeAlias = Literal["hubert", "bert"]

_V2_FOLDER = "gsv-v2final-pretrained"
_LATER_S1 = "s1v3.ckpt"
_FILES: dict[FileKind, dict[str, str]] = {
    "s1": {
        "v1": "s1bert25hz-2kh-longer-epoch=68e-step=50232.ckpt",
        "v2": f"{_V2_FOLDER}/s1bert25hz-5kh-longer-epoch=12-step=369668.ckpt",
        # Upstream has one GPT for all later versions (config.py).
        "v3": _LATER_S1,
        "v4": _LATER_S1,
        "v2Pro": _LATER_S1,
        "v2ProPlus": _LATER_S1,
    },
    "s2G": {
        "v1": "s2G488k.pth",
        "v2": f"{_V2_FOLDER}/s2G2333k.pth",
        "v3": "s2Gv3.pth",
        "v4": "gsv-v4-pretrained/s2Gv4.pth",
        "v2Pro": "v2Pro/s2Gv2Pro.pth",
        "v2ProPlus": "v2Pro/s2Gv2ProPlus.pth",
    },
    "s2D": {
        "v1": "s2D488k.pth",
        "v2": f"{_V2_FOLDER}/s2D2333k.pth",
        "v2Pro": "v2Pro/s2Dv2Pro.pth",
        "v2ProPlus": "v2Pro/s2Dv2ProPlus.pth",
    },
    "speaker": {RELEASED: "sv/pretrained_eres2netv2w24s4ep4.ckpt"},
}
_FOLDERS: dict[FolderKind, str] = {"hubert": "chinese-hubert-base", "bert": "chinese-roberta-wwm-ext-large"}
_IN_FOLDER = ("config.json", "*.safetensors", "pytorch_model.bin", "vocab.txt", "tokenizer*.json")


def base_names(kind: FileKind) -> tuple[str, ...]:
    """Return the names that stand for a released file of this kind, such as ``v2Pro``."""
    return tuple(_FILES[kind])


def base_file(source: str, kind: FileKind) -> Path:
    """Return the path of a base file; a released one is downloaded once and kept in the hub's cache.

    Args:
        source: A local path, or one of `base_names`. A path wins where both exist.
        kind: ``s1`` the GPT, ``s2G`` and ``s2D`` SoVITS's generator and critics, ``speaker`` the verification network.

    Raises:
        ConfigError: if it is neither; or the download fails, with what to fetch by hand.
        DataError: if it is a path that names no regular file.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.exists():
        raise DataError(f"{source} is a folder, and the {kind} network is one file. Name the file in it.")
    if source not in _FILES[kind]:
        named = ", ".join(_FILES[kind])
        raise ConfigError(f"There is no file {source!r}. Give the path of a {kind} file, or a released one: {named}.")
    return _download_file(_FILES[kind][source])


def base_folder(source: str, kind: FolderKind) -> Path:
    """Return the folder of a transformers network; one of the hub is downloaded once and kept in its cache.

    Args:
        source: A local folder with ``config.json`` and the weights, ``released``, or a hub name such as ``owner/name``.
        kind: ``hubert`` for speech features, ``bert`` for text features.

    Raises:
        ConfigError: if it is none of these, or the download fails, with what to fetch by hand.
    """
    if kind not in get_args(FolderKind):
        raise ConfigError(f"The kind is {' or '.join(get_args(FolderKind))}, and {kind!r} was given.")
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if source == RELEASED:
        name = _FOLDERS[kind]
        return _download_folder(REPOSITORY, name)
    if path.exists() or source.count("/") != 1 or source.startswith(("/", ".", "~")):
        raise ConfigError(f"There is no folder {source!r}. Give a folder of {_FOLDERS[kind]}, or say {RELEASED}.")
    return _download_folder(source)


def place_in_models(kind: FileKind | FolderKind, version: str) -> str:
    """Return where upstream's folder ``pretrained_models`` has a network, relative to it.

    Raises:
        ConfigError: if that version has none of this kind.
    """
    if kind == "hubert" or kind == "bert":
        return _FOLDERS[kind]
    table = _FILES[kind]
    place = table.get(RELEASED) or table.get(version)
    if place is None:
        raise ConfigError(f"There is no released {kind} file of {version}; there is one of {', '.join(table)}.")
    return place


def _download_file(name: str) -> Path:
    from huggingface_hub import hf_hub_download

    with _fetching(f"{name} of {REPOSITORY}") as cached:
        # Where the hub cannot be reached, its client looks on this machine alone, without waiting for time-outs.
        return Path(hf_hub_download(REPOSITORY, name, local_files_only=cached))


def _download_folder(repository: str, folder: str = "") -> Path:
    from huggingface_hub import snapshot_download

    wanted = [f"{folder}/{name}" if folder else name for name in _IN_FOLDER]
    with _fetching(f"{folder} of {repository}" if folder else repository) as cached:
        return Path(snapshot_download(repository, allow_patterns=wanted, local_files_only=cached)) / folder


def _fetching(what: str) -> AbstractContextManager[bool]:
    return from_hub(
        what,
        failed=f"{what} could not be fetched from the Hugging Face hub:",
        advice="Download it by hand and give its path, or try again when the hub can be reached.",
    )


_TRAIN: dict[str, Any] = {
    "log_interval": 100, "eval_interval": 500, "seed": 1234, "epochs": 100, "learning_rate": 1e-4,
    "betas": [0.8, 0.99], "eps": 1e-9, "batch_size": 32, "fp16_run": True, "lr_decay": 0.999875,
    "segment_size": 20480, "init_lr_ratio": 1, "warmup_epochs": 0, "c_mel": 45, "c_kl": 1.0,
    "text_low_lr_rate": 0.4, "grad_ckpt": False,
}  # fmt: skip
_DATA: dict[str, Any] = {
    "max_wav_value": 32768.0, "sampling_rate": 32000, "filter_length": 2048, "hop_length": 640, "win_length": 2048,
    "n_mel_channels": 128, "mel_fmin": 0.0, "mel_fmax": None, "add_blank": True, "n_speakers": 300,
    "cleaned_text": True,
}  # fmt: skip
_MODEL: dict[str, Any] = {
    "inter_channels": 192, "hidden_channels": 192, "filter_channels": 768, "n_heads": 2, "n_layers": 6,
    "kernel_size": 3, "resblock": "1", "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]], "upsample_rates": [10, 8, 2, 2, 2],
    "n_layers_q": 3, "use_spectral_norm": False, "semantic_frame_rate": "25hz", "freeze_quantizer": True,
}  # fmt: skip


def s2_config(version: str, *, name: str = "") -> dict[str, Any]:
    """Return the settings of a SoVITS version as a fresh table that `write_s2` takes.

    Args:
        version: Its name.
        name: Name of the voice, kept in the file.
    """
    row = find_version(version)
    model = {
        **_MODEL,
        "p_dropout": row.dropout,
        "upsample_initial_channel": row.wave_channels,
        "upsample_kernel_sizes": list(row.upsample_kernels),
        "gin_channels": row.style,
        "version": version,
    }
    tables = {"train": _TRAIN, "data": _DATA, "model": model, "content_module": "cnhubert"}
    return copy.deepcopy({**tables, "name": name, "version": version})


def s1_config(model: dict[str, Any], *, max_sec: float = 54) -> dict[str, Any]:
    """Return the settings of a GPT file that `write_s1` takes.

    Args:
        model: Sizes, as ``config_to_upstream`` gives them.
        max_sec: What the file says; upstream's inference stops after 50 codes for each of it, 2 seconds of speech.
    """
    train = {"seed": 1234, "epochs": 15, "batch_size": 8, "precision": "16-mixed", "gradient_clip": 1.0}
    rates = {"lr": 0.01, "lr_init": 1e-5, "lr_end": 1e-4, "warmup_steps": 2000, "decay_steps": 40000}
    return copy.deepcopy(
        {
            "train": train,
            "optimizer": rates,
            "data": {"max_eval_sample": 8, "max_sec": max_sec, "num_workers": 4, "pad_val": model["EOS"]},
            "model": dict(model),
            "inference": {"top_k": 15},
        }
    )
