"""Reads the dictionaries and tables that lie beside this package's code."""

from __future__ import annotations

import hashlib
import io
import lzma
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

_FOLDER = files("tts_train_gpt_sovits.text").joinpath("data")


def read_text(name: str) -> str:
    """Read a UTF-8 file of the data folder; `.xz` files are unpacked."""
    raw = _FOLDER.joinpath(name).read_bytes()
    return (lzma.decompress(raw) if name.endswith(".xz") else raw).decode("utf-8")


def read_arrays(name: str) -> dict[str, NDArray[np.float32]]:
    """Read the arrays of an `.npz` file as float32."""
    with np.load(io.BytesIO(_FOLDER.joinpath(name).read_bytes()), allow_pickle=False) as archive:
        return {key: archive[key].astype(np.float32) for key in archive.files}


def data_digest() -> str:
    """Hash every data file, so that a changed dictionary changes the fingerprint."""
    digest = hashlib.sha256()
    for entry in sorted(_FOLDER.iterdir(), key=lambda entry: entry.name):
        digest.update(entry.name.encode() + hashlib.sha256(entry.read_bytes()).digest())
    return digest.hexdigest()
