"""What lies where in an experiment folder, and what a clip in it is called."""

from __future__ import annotations

from pathlib import PurePath

NAMES = "2-name2text"
"""Names, phones, counts and texts; ``.txt`` whole, ``-0.txt`` and so on before its parts are merged."""
TOKENS = "6-name2semantic"
"""Names and semantic tokens; ``.tsv`` likewise."""
BERT, HUBERT, WAVES, SPEAKER = "3-bert", "4-cnhubert", "5-wav32k", "7-sv_cn"
"""Folders of text features, speech features, training audio and speaker vectors."""
TOKENS_HEADER = ("item_name", "semantic_audio")
FEATURE_SUFFIX = ".pt"
"""Features are called like the clip with its own ending before this: ``a.wav.pt``."""
TOKEN_RATE, SAMPLE_RATE = 25, 32_000


def plain_name(name: str) -> bool:
    """Whether a clip's name is that of a file in the folder, and leads nowhere else."""
    whole = PurePath(name).name == name  # under Windows no drive
    return whole and name not in ("", "..") and not any(char in name for char in "/\\\0")
