"""Whether the semantic tokens of an experiment folder are those of a given SoVITS file, which the folder never says."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from tts_train_gpt_sovits.features.semantic import SemanticTokens
from tts_train_gpt_sovits.released.experiment.read import ExperimentRow


def token_agreement(rows: Iterable[ExperimentRow], tokens: SemanticTokens) -> float | None:
    """Return the share of stored tokens that a quantizer gives for the stored speech features; None without features.

    Of the right file it is near 1 (features stored in half precision move a token here and there); of another one,
    near 0. Some tens of rows say it well enough.
    """
    same = total = 0
    for row in rows:
        if row.ssl is not None:
            stored = torch.from_numpy(row.codes)
            same += int((tokens.encode([row.ssl])[0] == stored).sum())
            total += len(stored)
    return same / total if total else None
