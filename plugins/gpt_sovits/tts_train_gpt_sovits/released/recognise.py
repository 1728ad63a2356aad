"""What a file of upstream's is: which network, which version, for inference or for training; no tensor is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tts_train.contract import DataError
from tts_train.weights import TensorClaim, check_regular, describe_torch
from tts_train_gpt_sovits.released.signatures import MARKS, first_bytes, head_of, unknown_mark, version_by_bytes

CONFIG_CLASSES = ("utils.HParams",)
"""Classes that upstream pickles its configurations as; they become dicts."""
Kind: TypeAlias = Literal["s1", "s2G", "s2D", "lora", "s1_training", "s2G_training", "s2D_training"]

_FOLDER = re.compile(r"logs_s2_(v1|v2|v3|v4|v2Pro|v2ProPlus)(_lora_\d+)?")
_V1_ROWS = (322, 512)
_PRO_STYLE = 1024
"""Channels of the released Pro versions' style."""
_PLUS_CHANNELS = 768


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """What a file is."""

    path: Path
    kind: Kind
    version: str
    """v1, v2, v3, v4, v2Pro or v2ProPlus. An s1 file is v1 or v2, which stands for all later ones; discriminators are
    the same in v1 and v2, and in both Pro versions."""
    told_by: str
    """base, mark, size, table (of phonemes), tensors, config, folder or caller: what decided the version."""
    taken_for: str
    """The version that upstream's inference takes the file for before opening it; of no meaning for s1 and training."""
    complete: bool
    """Whether the file can be the base of another fine-tune: nothing that training needs is left out."""
    rank: int | None = None
    """Rank of a LoRA."""
    half: bool = False
    """Whether the weights are in half precision."""

    @property
    def head(self) -> bytes:
        """What belongs in place of the file's first bytes."""
        return head_of(first_bytes(self.path))


def recognise(path: Path, *, version: str | None = None) -> Recognised:
    """Return what a file is, by the rules of upstream and, where these mislead, by its tensors.

    Args:
        path: A GPT or SoVITS file: released, exported, or of training.
        version: Settles v3 or v4, v1 or v2 where nothing in the file does.

    Raises:
        DataError: if it is none of these, or says two different things.
        UnsafeFileError: if it holds more than plain values and tensors.
    """
    check_regular(path)
    first = first_bytes(path)
    _refuse_unknown_mark(path, first)
    content = describe_torch(path, head=head_of(first), dict_classes=CONFIG_CLASSES)
    kind, weights = _find_weights(path, content)
    taken_for, told_by = version_by_bytes(first, path.stat().st_size)
    if kind.startswith("s1"):
        found, told = _s1_version(weights), "table"
    else:
        hints = {"caller": version, **_hints(path, content)}
        found, told = _s2_version(path, weights, (taken_for, told_by), hints)
    marked = MARKS.get(first[:2])
    if marked and marked != (found, kind == "lora"):
        raise DataError(f"{path} is marked {marked[0]}{' LoRA' if marked[1] else ''} and holds {kind} of {found}.")
    return Recognised(
        path=path, kind=kind, version=found, told_by=told, taken_for=taken_for, complete=_complete(kind, weights),
        rank=_rank(weights), half=any(claim.dtype == "float16" for claim in weights.values()),
    )  # fmt: skip


def _refuse_unknown_mark(path: Path, first: bytes) -> None:
    mark = unknown_mark(first)
    if mark is not None:
        known = ", ".join(f"{key.decode()} {name}{' LoRA' * lora}" for key, (name, lora) in MARKS.items())
        raise DataError(
            f"{path} is marked {mark!r}, which no released GPT-SoVITS writes: it is of a later version or of another "
            f"tool. Known marks: {known}. Give a file of one of these, or one that has no mark."
        )


def _find_weights(path: Path, content: object) -> tuple[Kind, Mapping[str, TensorClaim]]:
    tables = content if isinstance(content, dict) else {}
    for key, training in (("weight", False), ("model", True), ("state_dict", True)):
        weights = tables.get(key)
        if isinstance(weights, dict) and weights and all(isinstance(claim, TensorClaim) for claim in weights.values()):
            kind = _kind_of(weights, training)
            if kind:
                return kind, weights
    keys = ", ".join(map(str, list(tables)[:8])) or "no table"
    raise DataError(
        f"{path} is no file of GPT-SoVITS: it holds {keys}. "
        "Give a GPT or SoVITS weights file, or a checkpoint of logs_s1 or logs_s2."
    )


def _kind_of(weights: Mapping[str, object], training: bool) -> Kind | None:
    names = list(weights)
    if any(name.startswith("model.h.layers.") for name in names):
        return "s1_training" if training else "s1"
    if any(name.startswith("discriminators.") for name in names):
        return "s2D_training" if training else "s2D"
    if training:
        return "s2G_training" if any(name.startswith("enc_p.") for name in names) else None
    if any(".lora_A." in name for name in names):
        return "lora"
    return "s2G" if any(name.startswith("enc_p.") for name in names) else None


def _s1_version(weights: Mapping[str, TensorClaim]) -> str:
    table = weights.get("model.ar_text_embedding.word_embeddings.weight")
    return "v1" if table is not None and table.shape[0] in _V1_ROWS else "v2"


def _s2_version(
    path: Path, weights: Mapping[str, TensorClaim], upstream: tuple[str, str], hints: Mapping[str, str | None]
) -> tuple[str, str]:
    """Return the version among those the tensors allow, and what told it."""
    allowed = _allowed(weights)
    if len(allowed) == 1:
        return allowed[0], "table" if allowed[0] in ("v1", "v2") else "tensors"
    if upstream[1] in ("base", "mark") and upstream[0] in allowed:
        return upstream
    for told_by, hint in hints.items():
        if hint in allowed:
            return str(hint), told_by
    if "sv_emb.weight" in weights or any(name.startswith("discriminators.") for name in weights):
        return allowed[0], "tensors"
    if upstream[0] in allowed:
        return upstream
    raise DataError(f"{path} may be of {' or '.join(allowed)}, and nothing in it says which. Give the version.")


def _allowed(weights: Mapping[str, TensorClaim]) -> tuple[str, ...]:
    if any(name.startswith(("cfm.", "bridge.")) for name in weights):
        return ("v3", "v4")
    if any(name.startswith("discriminators.") for name in weights):
        later = any(name.startswith("discriminators.6.") for name in weights)
        return ("v2Pro", "v2ProPlus") if later else ("v2", "v1")
    if "sv_emb.weight" in weights:
        first = weights.get("dec.conv_pre.weight")
        plus = first is not None and first.shape[0] == _PLUS_CHANNELS
        likely, other = ("v2ProPlus", "v2Pro") if plus else ("v2Pro", "v2ProPlus")
        # A small network may have any number of channels: what the file says counts more there.
        return (likely,) if weights["sv_emb.weight"].shape[0] == _PRO_STYLE else (likely, other)
    table = weights.get("enc_p.text_embedding.weight")
    return ("v1",) if table is not None and table.shape[0] == _V1_ROWS[0] else ("v2",)


def _hints(path: Path, content: Mapping[str, Any]) -> dict[str, str | None]:
    config = content.get("config")
    config = config if isinstance(config, dict) else {}
    model = config.get("model")
    said = (model.get("version") if isinstance(model, dict) else None) or config.get("version")
    folder = _FOLDER.fullmatch(path.resolve().parent.name)
    return {"config": said if isinstance(said, str) else None, "folder": folder[1] if folder else None}


def _complete(kind: Kind, weights: Mapping[str, object]) -> bool:
    if kind == "lora":
        return False
    whole = any(name.startswith(("enc_q.", "cfm.")) for name in weights)
    return whole or not kind.startswith("s2G")


def _rank(weights: Mapping[str, TensorClaim]) -> int | None:
    return next((claim.shape[0] for name, claim in weights.items() if ".lora_A." in name), None)
