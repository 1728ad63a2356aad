"""Write files that upstream reads, and whole ones that training can start from; each is read back before it counts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tts_train.contract import ConfigError, DataError, DiskError, NumericError
from tts_train.disk import staged_file
from tts_train.weights import read_torch
from tts_train_gpt_sovits.released.gpt_names import config_from_upstream
from tts_train_gpt_sovits.released.recognise import ARCHIVE, mark_for
from tts_train_gpt_sovits.released.shapes import (
    Shapes,
    check_shapes,
    critic_shapes,
    generator_shapes,
    gpt_shapes,
    lora_shapes,
)
from tts_train_gpt_sovits.released.sovits_names import EXPORT_OMITS

_TABLES = ("train", "data", "model")


def write_s1(path: Path, weights: Mapping[str, Tensor], *, config: Mapping[str, Any], info: str) -> None:
    """Write a GPT file for upstream's inference, in half precision.

    Args:
        path: The new file; one that is there is replaced once the new one is verified.
        weights: All tensors, by released name.
        config: Upstream's settings, plain values only; its ``model`` table says the sizes, ``data`` has ``max_sec``.
        info: A remark, as ``GPT-e15``.

    Raises:
        ConfigError: if the configuration lacks what upstream reads.
        DataError: if tensors are missing or wrong; they are listed.
        NumericError: if a tensor is not finite in half precision.
        DiskError: if it cannot be written.
    """
    if "max_sec" not in config.get("data", {}):
        raise ConfigError("A GPT file needs data.max_sec in its configuration, as upstream's inference reads it.")
    expected = gpt_shapes(config_from_upstream(config.get("model", {})))
    _write(path, weights, expected, {"config": dict(config), "info": info})


def write_s2(
    path: Path,
    weights: Mapping[str, Tensor],
    *,
    version: str,
    config: Mapping[str, Any],
    info: str,
    lora_rank: int | None = None,
    shapes: Shapes | None = None,
) -> None:
    """Write a SoVITS file for upstream's inference: half precision, no posterior encoder, the version's mark.

    Args:
        path: The new file; one that is there is replaced once the new one is verified.
        weights: Tensors by released name; those that only training needs are left out here.
        version: v1, v2, v2Pro, v2ProPlus, v3, or v4 (as a LoRA).
        config: Upstream's settings with its tables train, data and model; plain values only.
        info: A remark, as ``8epoch_1240iteration``.
        lora_rank: Rank, if these are the tensors of a LoRA of v3 or v4.
        shapes: What the whole network holds; the released sizes of the version if None.

    Raises:
        See `write_s1`.
    """
    if version == "v4" and lora_rank is None:
        raise ConfigError(
            "Upstream reads v4 voices only as LoRA files. Give the rank of the LoRA, or write the full file."
        )
    if lora_rank is not None and version not in ("v3", "v4"):
        raise ConfigError(f"Upstream knows LoRA files of v3 and v4 only, not of {version}.")
    expected = shapes or (generator_shapes(version) if lora_rank is None else lora_shapes(version, lora_rank))
    # As in upstream's exports (process_ckpt.py). Who trains on from one begins with a posterior encoder of chance;
    # `full` keeps the trained one.
    kept = {name: shape for name, shape in expected.items() if not name.startswith(EXPORT_OMITS)}
    given = {name: tensor for name, tensor in weights.items() if not name.startswith(EXPORT_OMITS)}
    extra = {} if lora_rank is None else {"lora_rank": lora_rank}
    content = {"config": _s2_config(config, version), "info": info, **extra}
    _write(path, given, kept, content, mark=mark_for(version, lora=lora_rank is not None))


def write_full(
    path: Path,
    weights: Mapping[str, Tensor],
    *,
    version: str,
    config: Mapping[str, Any],
    info: str,
    shapes: Shapes | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a whole generator, laid out as the released bases: it can be what the next fine-tune starts from.

    Upstream's training takes it as its base too. Its inference tells unmarked files by size alone, so for
    speaking write a file by `write_s2`. Arguments and errors are as there; ``dtype`` is that of the weights.
    """
    expected = shapes or generator_shapes(version)
    _write(path, weights, expected, {"config": _s2_config(config, version), "info": info}, dtype=dtype)


def write_critics(
    path: Path,
    weights: Mapping[str, Tensor],
    *,
    version: str,
    info: str,
    shapes: Shapes | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write discriminators, laid out as the released bases, to go with `write_full`."""
    _write(path, weights, shapes or critic_shapes(version), {"config": {"version": version}, "info": info}, dtype=dtype)


def _s2_config(config: Mapping[str, Any], version: str) -> dict[str, Any]:
    missing = [name for name in _TABLES if not isinstance(config.get(name), Mapping)]
    if missing:
        raise ConfigError(
            f"A SoVITS file needs the tables {', '.join(_TABLES)} in its configuration; add {missing[0]}."
        )
    # In both places, where upstream's interface writes it before a training (webui.py).
    return {**config, "model": {**config["model"], "version": version}, "version": version}


def _write(
    path: Path,
    weights: Mapping[str, Tensor],
    expected: Shapes,
    content: Mapping[str, Any],
    *,
    mark: bytes = ARCHIVE,
    dtype: torch.dtype = torch.float16,
) -> None:
    check_shapes("The export", {name: tuple(tensor.shape) for name, tensor in weights.items()}, expected)
    # In the released order, which is that of the networks' own parameters.
    cast = {name: _cast(name, weights[name], dtype) for name in expected}
    try:
        with staged_file(path) as temporary:
            _save(temporary, {"weight": cast, **content}, mark)
            _verify(temporary, {"weight": cast, **content}, mark)
    except RuntimeError as error:
        # torch says RuntimeError when the file below it cannot grow.
        raise DiskError(f"{path} was not written: {error}. Free some space or choose another place.") from error


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    cast = tensor.detach().to("cpu", dtype).contiguous()
    if not bool(torch.isfinite(cast).all()):
        raise NumericError(f"{name} is not finite as {str(dtype).removeprefix('torch.')}, so no file is written.")
    # A view would take the whole of its storage into the file.
    return cast if cast.untyped_storage().nbytes() == cast.nbytes else cast.clone()


def _save(path: Path, content: dict[str, Any], mark: bytes) -> None:
    with path.open("wb") as file:
        torch.save(content, file)
        file.seek(0)
        # Two letters in place of PK, by which upstream's inference tells the version without opening the file
        # (process_ckpt.py).
        file.write(mark)
        file.flush()
        os.fsync(file.fileno())


def _verify(path: Path, content: dict[str, Any], mark: bytes) -> None:
    """Refuse a file that does not read back as what was written."""
    # Through the reader of foreign files, as a user's own load of it will go.
    read = read_torch(path, head=ARCHIVE if mark != ARCHIVE else b"")
    wrong = [name for name, tensor in content["weight"].items() if not torch.equal(read["weight"][name], tensor)]
    wrong += [key for key in content if key != "weight" and read.get(key) != content[key]]
    if wrong or list(read["weight"]) != list(content["weight"]):
        raise DataError(
            f"The export reads back differently in {', '.join(wrong[:5]) or 'its order'}; use plain values."
        )
