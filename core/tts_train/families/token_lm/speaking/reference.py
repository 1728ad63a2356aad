"""Recordings of a voice that generation continues with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tts_train.corpus.language import says_nothing
from tts_train.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import Codec, TokenLM


def paired(reference: list[str] | str | None, reference_text: list[str] | str | None) -> list[tuple[Path, str]]:
    """Return each recording with its text.

    Raises:
        ConfigError: if one lacks the other, or a file is not there.
    """
    files, texts = _as_list(reference), _as_list(reference_text)
    # The model continues text and sound together: sound without its words is no prompt to it.
    if len(files) != len(texts):
        raise ConfigError(
            f"{len(files)} --reference and {len(texts)} --reference_text were given; each recording needs its text."
        )
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise ConfigError(f"--reference {missing[0]} is no file.")
    for text in filter(says_nothing, texts):
        raise ConfigError(f"--reference_text takes what is said in the recording, and {text!r} was given.")
    return [(Path(file), text) for file, text in zip(files, texts, strict=True)]


def encode_reference(token_lm: TokenLM, file: Path, codec: Codec) -> Ids:
    """Read a recording at the codec's rate and return its ids, without repeated frames if training has none.

    Raises:
        DataError: if it cannot be read or used.
    """
    codes = codec.encode([read_reference(file, codec)])[0]
    ids = token_lm.layout.codes_to_tokens(codes)
    # As in the training data, else the prompt is unlike anything that was learnt.
    return token_lm.layout.drop_repeated_frames(ids)[0] if token_lm.drops_repeats else ids


def read_reference(file: Path, codec: Codec) -> Tensor:
    """Read a recording as (time,) float32 at the codec's rate.

    Raises:
        DataError: if it cannot be read or used.
    """
    import torch

    from tts_train.corpus.audio.containers import AudioRejected
    from tts_train.corpus.audio.read import read_audio

    try:
        return torch.from_numpy(read_audio(file, sample_rate=codec.sample_rate).samples)
    except AudioRejected as error:
        raise DataError(f"--reference {file} cannot be used: {error.reason} ({error.detail}).") from error


def _as_list(value: list[str] | str | None) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)
