"""Tensors in safetensors files: written one at a time with their hash, shared ones once, layouts kept.

The format is the public one (8 bytes of header length, a JSON header, the bytes of each tensor without gaps), so any
safetensors reader opens these files. Writing it here means that no more than one tensor is copied to memory at once,
and that one which is sharded over processes is gathered only while it is written.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from tts_train.checkpoints.staging import Staging
from tts_train.checkpoints.tree import Keys, NotRepresentableError
from tts_train.disk.files import HashingWriter

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}


class TensorFile:
    """The tensors of one safetensors file, collected by reference and written in one go."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tensors: dict[str, torch.Tensor] = {}
        self._aliases: dict[str, str] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self._staged: dict[str, list[torch.Tensor]] = {}
        self._header_now: bytes | None = None

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, each shared one counted once."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors.values())

    def add(self, keys: Keys, tensor: torch.Tensor) -> dict[str, Any]:
        """Take a tensor in and return the reference that finds it again.

        Two tensors that are the same view of the same memory are stored once; both references name that one.

        Raises:
            NotRepresentableError: for sparse, wrapped or meta tensors.
        """
        _check(keys, tensor)
        tensor = tensor.detach()
        name = self._free_name("/".join(str(key) for key in keys))
        mine = local(tensor)
        # Tied weights are the same view of the same memory, and must be tied again when they are read.
        identity = (mine.device, mine.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        # Empty tensors all lie at address 0, and are not the same for it.
        if mine.numel() and identity in self._names:
            self._aliases[name] = self._names[identity]
            name = self._names[identity]
        else:
            self._names[identity] = name
        order = _dense_order(tensor)
        self._tensors[name] = tensor if order is None else tensor.permute(order)
        reference = {"$tensor": name, "file": self.name}
        return reference if order is None else {**reference, "order": order}

    def write(self, directory: Path) -> dict[str, Any]:
        """Write the file, bring it to the disk, and return its size and hash.

        Where tensors are sharded, the other processes must :meth:`accompany` this; a disk that refuses is told of only
        when the last tensor was gathered, so that nobody waits in vain.
        """
        failure: OSError | None = None
        writer: HashingWriter | None = None
        try:
            writer = HashingWriter(directory / self.name)
        except OSError as error:
            failure = error
        try:
            # The loop goes on after a failure: the other processes wait in the gathering of each tensor.
            for part in self._parts():
                if writer is not None and failure is None:
                    try:
                        writer.write(part)
                    except OSError as error:
                        failure = error
            if failure is not None or writer is None:
                raise failure or AssertionError
            return writer.close()
        finally:
            if writer is not None:
                writer.abandon()

    @property
    def devices(self) -> set[torch.device]:
        """Where its tensors lie."""
        return {tensor.device for tensor in self._tensors.values()}

    def stage(self, room: Staging) -> None:
        """Copy all tensors, so that they may change before the file is written; for tensors that are not sharded."""
        self._staged = {name: room.copy(tensor) for name, tensor in self._tensors.items()}
        self._header_now = self._header()
        self._tensors = {}

    @property
    def gathered(self) -> list[str]:
        """Names of the tensors that all processes gather, in the order in which they are written."""
        return [name for name, tensor in self._tensors.items() if isinstance(tensor, DTensor)]

    def accompany(self, names: Sequence[str]) -> None:
        """Take part in gathering the tensors that another process writes, whose ``names`` these are."""
        for name in names:
            whole(self._tensors[name])

    def _parts(self) -> Iterator[bytes | memoryview]:
        if self._header_now is not None:
            yield self._header_now
            for parts in self._staged.values():
                yield from (part.numpy().data for part in parts)
            return
        yield self._header()
        for tensor in self._tensors.values():
            if tensor.numel():
                # One tensor at a time: a sharded model would not fit into one process whole.
                flat = whole(tensor).contiguous().cpu().reshape(-1).view(torch.uint8)
                yield flat.numpy().data

    def _free_name(self, name: str) -> str:
        taken = self._tensors.keys() | self._aliases.keys()
        candidate, number = name, 2
        while candidate in taken:
            candidate, number = f"{name}~{number}", number + 1
        return candidate

    def _header(self) -> bytes:
        # A name that is left out leads to the one that is kept, as in files of safetensors.torch.save_model.
        header: dict[str, Any] = {"__metadata__": {"format": "pt", **self._aliases}}
        offset = 0
        for name, tensor in self._tensors.items():
            end = offset + tensor.numel() * tensor.element_size()
            header[name] = {
                "dtype": _DTYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [offset, end],
            }
            offset = end
        encoded = json.dumps(header, separators=(",", ":")).encode()
        # The format asks for tensors that begin at a multiple of 8 bytes; readers map them as they lie.
        encoded += b" " * (-len(encoded) % 8)
        return struct.pack("<Q", len(encoded)) + encoded


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this process holds of a tensor: its shard, or all of one that is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor; all processes must ask for the same sharded ones in the same order."""
    if not isinstance(tensor, DTensor):
        return tensor
    home = tensor.device_mesh.device_type
    # What is offloaded to the CPU comes back to the device that can gather it.
    at_home: Any = tensor if tensor.device.type == home else tensor.to(home)
    gathered: torch.Tensor = at_home.full_tensor()
    return gathered


def first_not_finite(tensors: dict[str, Any]) -> str | None:
    """Return the name of a floating-point tensor that holds NaN or an infinity, or None; a card is waited for once."""
    names, flags = [], []
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            mine = local(tensor)
            if mine.numel():
                # aminmax is not there for 8-bit floats.
                wide = mine.float() if mine.element_size() == 1 else mine
                names.append(name)
                flags.append(torch.isfinite(torch.stack(torch.aminmax(wide))).all())  # one pass, and NaN is both
    home = flags[0].device if flags else None
    told = torch.stack([flag.to(home) for flag in flags]).tolist() if flags else []
    return next((name for name, finite in zip(names, told, strict=True) if not finite), None)


def _check(keys: Keys, tensor: torch.Tensor) -> None:
    # Anything else would come back as another tensor than was saved.
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        raise NotRepresentableError(keys, f"a tensor with layout {tensor.layout} on {tensor.device}")
    if is_traceable_wrapper_subclass(tensor) and not isinstance(tensor, DTensor):
        raise NotRepresentableError(keys, f"a {type(tensor).__qualname__} (save the full, plain tensor)")
    if tensor.dtype not in _DTYPES:
        raise NotRepresentableError(keys, f"a tensor of {tensor.dtype}")


def _dense_order(tensor: torch.Tensor) -> list[int] | None:
    """Return the order of dimensions in which a permuted but gapless tensor lies in memory; None if it need not be."""
    if isinstance(tensor, DTensor) or tensor.is_contiguous():
        return None
    order = sorted(range(tensor.dim()), key=tensor.stride().__getitem__, reverse=True)
    return order if tensor.permute(order).is_contiguous() else None
