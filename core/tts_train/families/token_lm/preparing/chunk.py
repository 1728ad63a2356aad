"""What a chunk of utterances is encoded with; imports no torch, as ``--help`` reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from tts_train.corpus import TokenRow, Utterance

CODE_VERSION = 2
"""Part of every shard's address: raise it when the same input would give other rows."""

Row: TypeAlias = Utterance | TokenRow


@dataclass(frozen=True)
class TokenEncodeOptions:
    """What decides the rows made from an utterance, and how they are computed."""

    codec: str
    codec_fingerprint: str
    tokenizer: str
    tokenizer_fingerprint: str
    dedup: bool
    voice_prefix: bool
    min_seconds: float
    max_seconds: float
    decoders: tuple[str, ...]
    """Optional audio decoders that are installed: with another one, rows that were dropped may be read."""
    device: str = "cpu"
    labelled: bool = False
    """Whether rows have labels, -100 on ids that are not learnt; only sets that were tokenised elsewhere do."""

    def address(self) -> dict[str, Any]:
        """Return what belongs into a shard's address: all but names and places, which do not change the rows."""
        values = asdict(self)
        for name in ("codec", "tokenizer", "device"):
            del values[name]
        if not self.labelled:
            del values["labelled"]  # shards without labels keep the address they had before there were any
        return {"code_version": CODE_VERSION, **values}
