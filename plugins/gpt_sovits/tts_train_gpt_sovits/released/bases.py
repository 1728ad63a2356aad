"""The released networks that training and preparation start from: by a version's name, or a local path."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias, get_args

from tts_train.contract import ConfigError, DataError
from tts_train.weights import unreachable, why_missing

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

    try:
        return Path(hf_hub_download(REPOSITORY, name, local_files_only=unreachable()))
    except (OSError, ValueError) as error:
        raise _failed(f"{name} of {REPOSITORY}", error) from error


def _download_folder(repository: str, folder: str = "") -> Path:
    from huggingface_hub import snapshot_download

    wanted = [f"{folder}/{name}" if folder else name for name in _IN_FOLDER]
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted, local_files_only=unreachable())) / folder
    except (OSError, ValueError) as error:
        raise _failed(f"{folder} of {repository}" if folder else repository, error) from error


def _failed(what: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{what} could not be fetched from the Hugging Face hub: {why_missing(error, what)} "
        "Download it by hand and give its path, or try again when the hub can be reached."
    )
