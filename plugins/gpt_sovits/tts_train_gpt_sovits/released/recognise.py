"""What a file of upstream's is: which network, which version, for inference or for training; no tensor is read.

A SoVITS file says its version by its first bytes, their hash, and its size.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tts_train.contract import DataError
from tts_train.weights import TensorClaim, check_regular, describe_torch

ARCHIVE = b"PK"
"""First two bytes of an ordinary file, and what belongs where a version's mark stands."""
MARKS = {
    b"00": ("v1", False),
    b"01": ("v2", False),
    b"02": ("v3", False),
    b"03": ("v3", True),
    b"04": ("v4", True),
    b"05": ("v2Pro", False),
    b"06": ("v2ProPlus", False),
}
"""What a mark in place of the first two bytes says: the version, and whether it is a LoRA."""
BASES = {
    "dc3c97e17592963677a4a1681f30c653": "v2",  # s2G488k; its phoneme table then says v1
    "43797be674a37c1c83ee81081941ed0f": "v3",
    "6642b37f3dbb1f76882b69937c95a5f3": "v2",
    "4f26b9476d0c5033e04162c486074374": "v4",
    "c7e9fce2223f3db685cdfa1e6368728a": "v2Pro",
    "66b313e39455b57ab1b0bc0b239c9d0a": "v2ProPlus",
}
"""MD5 of the first 8192 bytes of the released generators."""

_ARCHIVE_GOES_ON = b"\x03\x04"
_HASHED = 8192
_V1_BELOW = 82978 * 1024
_V2_BELOW = 700 * 1024 * 1024


def first_bytes(path: Path) -> bytes:
    """Return the bytes that the released files are told by."""
    with path.open("rb") as file:
        return file.read(_HASHED)


def head_of(first: bytes) -> bytes:
    """Return what belongs in place of the first bytes of a file: nothing new, unless a version's mark stands there."""
    return ARCHIVE if first[:2] in MARKS else b""


def unknown_mark(first: bytes) -> str | None:
    """Return what stands in place of an archive's first two bytes where that is no mark of a released version."""
    marked = first[:2] != ARCHIVE and first[2:4] == _ARCHIVE_GOES_ON
    return first[:2].decode("ascii", "backslashreplace") if marked and first[:2] not in MARKS else None


def version_by_bytes(first: bytes, size: int) -> tuple[str, str]:
    """Return the version that upstream takes a file for before opening it, and what told it.

    The order is upstream's: ``base`` (a released file, by hash), ``mark``, then ``size``.
    """
    # Upstream's own test, and no protection: the content is checked tensor by tensor afterwards.
    digest = hashlib.md5(first, usedforsecurity=False).hexdigest()
    if digest in BASES:
        return BASES[digest], "base"
    if first[:2] in MARKS:
        return MARKS[first[:2]][0], "mark"
    # A guess of upstream's, wrong for files of other precision; tensors overrule it here.
    return ("v1" if size < _V1_BELOW else "v2" if size < _V2_BELOW else "v3"), "size"


def mark_for(version: str, *, lora: bool) -> bytes:
    """Return the first two bytes that upstream expects of an inference file."""
    wanted = {value: mark for mark, value in MARKS.items()}
    # Upstream writes v1, v2 and whole v3 files without a mark, and older readers know no other.
    if not lora and version in ("v1", "v2", "v3"):
        return ARCHIVE
    return wanted[version, lora]


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
    # Mark and tensors contradict each other: such a file is refused, not read as one of the two.
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
    # v1's table has 512 rows in the released file, of which 322 are used.
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
        # One critic of the wave and five periods; the Pro versions have two more.
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
    # v3 and v4 have no posterior encoder that an export could leave out.
    whole = any(name.startswith(("enc_q.", "cfm.")) for name in weights)
    return whole or not kind.startswith("s2G")


def _rank(weights: Mapping[str, TensorClaim]) -> int | None:
    return next((claim.shape[0] for name, claim in weights.items() if ".lora_A." in name), None)
