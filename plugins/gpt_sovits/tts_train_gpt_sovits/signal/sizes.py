"""Sizes that files and networks of both stages share."""

from __future__ import annotations

from dataclasses import dataclass

CODES_PER_SECOND = 25
"""Semantic tokens of a second of speech."""
BERT_WIDTH = 1024
"""Channels of a phoneme's BERT feature."""


@dataclass(frozen=True)
class GptConfig:
    """Sizes of the text-to-semantic network."""

    phonemes: int = 732
    """Rows of the phoneme table: 732, or 512 for v1."""
    codes: int = 1025
    """Semantic codes and the end token, which is the last."""
    width: int = 512
    heads: int = 16
    layers: int = 24
    dropout: float = 0.1
    """Dropped after each position sum, on attention weights and on both branches of a layer; upstream's is 0.1."""

    @property
    def end(self) -> int:
        """The id of the end token."""
        return self.codes - 1
