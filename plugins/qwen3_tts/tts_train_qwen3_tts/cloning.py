"""The voice of recordings, taken by a Base model's speaker encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tts_train.contract import ConfigError, DataError
from tts_train.corpus import RowRejected, read_audio
from tts_train_qwen3_tts.networks.speaker import SAMPLE_RATE, embed

if TYPE_CHECKING:
    from torch import Tensor

    from tts_train_qwen3_tts.networks.talker import Qwen3TTSLM


CLONED = "the reference"
"""Name of the voice that is taken of references."""


def take_voice(lm: Qwen3TTSLM, files: Sequence[str]) -> None:
    """Let a Base model know the mean voice of recordings under the name :data:`CLONED`.

    Raises:
        ConfigError: if the model has no speaker encoder.
        DataError: if a recording cannot be used.
    """
    if not hasattr(lm, "speaker_encoder"):
        raise ConfigError(
            f"This is a {lm.config.kind} model, which has no speaker encoder and clones no voice. Speak with a Base "
            "model or a run that started from one, or name a speaker: --speaker NAME."
        )
    vectors = [embed(lm.speaker_encoder, _samples(Path(file))) for file in files]
    lm.take_voices([CLONED], torch.stack(vectors).mean(dim=0, keepdim=True))


def _samples(file: Path) -> Tensor:
    if not file.is_file():
        raise ConfigError(f"--reference {file} is no file.")
    try:
        return torch.from_numpy(read_audio(file, sample_rate=SAMPLE_RATE).samples)
    except RowRejected as error:
        raise DataError(f"--reference {file} cannot be used: {error.reason} ({error.detail}).") from error
