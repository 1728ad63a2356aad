"""Read upstream's files: weights by their released names, configurations as plain dicts, and training state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tts_train.contract import ConfigError, DataError
from tts_train.weights import read_torch
from tts_train_gpt_sovits.released.gpt_names import config_from_upstream
from tts_train_gpt_sovits.released.recognise import CONFIG_CLASSES, Kind, Recognised, recognise
from tts_train_gpt_sovits.released.shapes import (
    Shapes,
    check_shapes,
    critic_shapes,
    generator_shapes,
    gpt_shapes,
    lora_shapes,
)
from tts_train_gpt_sovits.released.sovits_names import EXPORT_OMITS

_S1_MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """A file for inference, or a base to train from."""

    recognised: Recognised
    weights: dict[str, Tensor]
    """By released name; in the precision of the file, on the CPU."""
    config: dict[str, Any]
    """Upstream's settings; empty if the file has none."""
    info: str
    """A remark such as ``8epoch_1240iteration``."""


@dataclass(frozen=True, kw_only=True)
class TrainingFile:
    """A checkpoint of upstream's training; what a stage does not keep is None or empty."""

    recognised: Recognised
    weights: dict[str, Tensor]
    """By released name, in float32."""
    optimizer: dict[str, Any]
    """``state`` and ``param_groups`` of the torch optimizer."""
    epochs: int
    """Epochs that are done."""
    step: int | None = None
    """Optimizer steps that are done (s1)."""
    learning_rate: float | None = None
    """The configured rate (s2)."""
    schedule: dict[str, Any] = field(default_factory=dict)
    """Attributes of the learning-rate schedule (s1)."""
    scaler: dict[str, Any] | None = None
    """State of the gradient scaler, where half precision used one (s1)."""
    config: dict[str, Any] = field(default_factory=dict)
    """Upstream's settings (s1)."""


def read_s1(path: Path) -> WeightsFile:
    """Read a text-to-semantic file; its sizes are those its configuration says.

    Raises:
        DataError: if it is another kind of file, or tensors are missing or wrong; they are listed.
        ConfigError: if its configuration has no sizes.
        UnsafeFileError: see `recognise`.
    """
    found = _expect(recognise(path), ("s1",), "a GPT (s1) weights file")
    weights, content = _read(found, "weight")
    config = _table(content, "config")
    # Against the sizes that the file itself says: a GPT may have any, while a SoVITS file's are its version's.
    check_shapes(str(path), _shapes(weights), gpt_shapes(config_from_upstream(_table(config, _S1_MODEL))))
    return WeightsFile(recognised=found, weights=weights, config=config, info=str(content.get("info", "")))


def read_s2(path: Path, *, version: str | None = None, shapes: Shapes | None = None) -> WeightsFile:
    """Read a SoVITS file: generator, discriminator or LoRA; a generator may lack what only training needs.

    Args:
        path: The file.
        version: Settles the version where nothing in the file does.
        shapes: What the file must hold; the released sizes of its version if None.

    Raises:
        DataError: if it is another kind of file, or tensors are missing or wrong; they are listed.
        UnsafeFileError: see `recognise`.
    """
    found = _expect(recognise(path, version=version), ("s2G", "s2D", "lora"), "a SoVITS (s2) weights file")
    weights, content = _read(found, "weight")
    omitted = EXPORT_OMITS if found.kind == "s2G" and not found.complete else ()
    check_shapes(str(path), _shapes(weights), shapes or released_shapes(found), omitted=omitted)
    info = str(content.get("info", ""))
    return WeightsFile(recognised=found, weights=weights, config=_table(content, "config"), info=info)


def read_training(path: Path, *, version: str | None = None, shapes: Shapes | None = None) -> TrainingFile:
    """Read a checkpoint of ``logs_s1*/ckpt`` or a ``G_*.pth`` or ``D_*.pth`` of ``logs_s2*``; arguments as `read_s2`.

    Raises:
        DataError: if it is another kind of file, or tensors are missing or wrong; they are listed.
        UnsafeFileError: see `recognise`.
    """
    # Lightning's checkpoint of s1 holds a pathlib path, which torch's own safe loader refuses; ours reads the tables
    # around it.
    kinds: tuple[Kind, ...] = ("s1_training", "s2G_training", "s2D_training")
    found = _expect(recognise(path, version=version), kinds, "a training checkpoint")
    return _read_s1_training(found) if found.kind == "s1_training" else _read_s2_training(found, shapes)


def released_shapes(found: Recognised) -> Shapes:
    """Return what a whole SoVITS file of this kind and version holds at the released sizes."""
    if found.kind.startswith("s2D"):
        return critic_shapes(found.version)
    if found.rank is not None:
        return lora_shapes(found.version, found.rank, exported=found.kind == "lora")
    return generator_shapes(found.version)


def _read_s1_training(found: Recognised) -> TrainingFile:
    weights, content = _read(found, "state_dict")
    config = _table(_table(content, "hyper_parameters"), "config")
    try:
        sizes = config_from_upstream(_table(config, _S1_MODEL))
        optimizer, schedule = content["optimizer_states"][0], content["lr_schedulers"][0]
        # Lightning counts epochs from 0.
        epochs, step = int(content["epoch"]) + 1, int(content["global_step"])
    except (KeyError, IndexError, TypeError, ConfigError) as error:
        raise DataError(f"{found.path} lacks what continuing needs ({error}). Use its exported weights.") from error
    check_shapes(str(found.path), _shapes(weights), gpt_shapes(sizes))
    return TrainingFile(
        recognised=found, weights=weights, optimizer=optimizer, epochs=epochs, step=step, schedule=schedule,
        scaler=content.get("MixedPrecision") or None, config=config,
    )  # fmt: skip


def _read_s2_training(found: Recognised, shapes: Shapes | None) -> TrainingFile:
    weights, content = _read(found, "model")
    check_shapes(str(found.path), _shapes(weights), shapes or released_shapes(found))
    try:
        optimizer, epochs, rate = content["optimizer"], int(content["iteration"]), float(content["learning_rate"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{found.path} lacks what continuing needs ({error}). Use its exported weights.") from error
    return TrainingFile(recognised=found, weights=weights, optimizer=optimizer, epochs=epochs, learning_rate=rate)


def _expect(found: Recognised, kinds: tuple[Kind, ...], wanted: str) -> Recognised:
    if found.kind not in kinds:
        raise DataError(f"{found.path} is {found.kind} of {found.version}, and {wanted} is wanted here.")
    return found


def _read(found: Recognised, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = read_torch(found.path, head=found.head, dict_classes=CONFIG_CLASSES)
    return content[key], content


def _table(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _shapes(weights: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}
