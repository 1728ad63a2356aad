"""What a chunk of utterances is prepared with; imports no torch, as ``--help`` reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

KIND = "gpt_sovits/speech"
"""What prepared folders of this backend hold: everything that each of its stages needs."""
CODE_VERSION = 2
"""Part of every shard's address: raise it when the same input would give other rows."""


@dataclass(frozen=True)
class Sources:
    """Where the networks of preparation come from: a folder, a file, a hub name, or ``tiny``."""

    hubert: str
    sovits: str
    bert: str
    speaker: str


@dataclass(frozen=True)
class GptSovitsEncodeOptions:
    """What decides the rows made from an utterance, and how they are computed."""

    version: str
    language: str | None
    sources: Sources
    hubert: str
    """Fingerprint of the network of the speech features; so are the next three."""
    quantizer: str
    bert: str | None
    """None where no row is Chinese."""
    speaker: str | None
    """None where the version takes no speaker vector."""
    text: str
    """Fingerprint of the text front end: libraries and tables."""
    keep_ssl: bool
    min_seconds: float
    max_seconds: float
    decoders: tuple[str, ...]
    """Optional audio decoders that are installed: with another one, rows that were dropped may be read."""
    device: str = "cpu"

    def address(self) -> dict[str, Any]:
        """Return what belongs into a shard's address: all but names and places, which do not change the rows."""
        values = asdict(self)
        for name in ("sources", "device"):
            del values[name]
        return {"code_version": CODE_VERSION, **values}
