"""How large a foreign file may say that it is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on what is believed before tensors are read; training files of a few thousand tensors stay far below."""

    pickle_bytes: int = 16 * 2**20
    """Largest pickle inside a file, in bytes."""
    opcodes: int = 250_000
    """Most instructions of one pickle; a tensor takes about 30."""
    nodes: int = 250_000
    """Most values of the resulting tree, shared ones counted each time they are met."""
    depth: int = 64
    """Most levels of dicts, lists and tuples inside each other."""
    produced: int = 4 * 2**20
    """Most bytes of text, bytes and attributes that calls in a pickle may make out of memorised values."""
    directory_bytes: int = 4 * 2**20
    """Most bytes that reading an archive's directory may take."""
    members: int = 20_000
    """Most members of an archive."""
    header_bytes: int = 8 * 2**20
    """Largest JSON header of a safetensors file, in bytes."""


LIMITS = Limits()
"""Generous for weights, tight for everything else."""
