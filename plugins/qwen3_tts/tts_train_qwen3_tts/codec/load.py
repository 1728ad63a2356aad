"""The way in: a codec by what the user gives for one."""

from __future__ import annotations

from typing import Literal, get_args

import torch

from tts_train.contract import ConfigError
from tts_train_qwen3_tts.codec.codec import QwenCodec
from tts_train_qwen3_tts.codec.files import find_codec, read_codec
from tts_train_qwen3_tts.codec.sizes import SUFFIX
from tts_train_qwen3_tts.codec.tiny import tiny_codec

Window = Literal["off", "on"]
TINY = "tiny"
"""The source that stands for a small codec with seeded weights."""


def load_codec(source: str, *, device: str | torch.device = "cpu", window: Window = "off") -> QwenCodec:
    """Load the codec of Qwen3-TTS.

    Args:
        source: A ``speech_tokenizer`` folder, a folder of a model that has one, a hub name of either
            (``Qwen/Qwen3-TTS-Tokenizer-12Hz``), or ``tiny``. What chooses a codec by one word can end it in
            ``#window=on``, which then decides.
        device: Where it computes.
        window: Whether the encoder's attention is held to the window that its configuration names, 10 s. ``off`` is
            what upstream computes (transformers 4.57.3 leaves the window out), and what its prepared codes were made
            with; ``on`` is what later versions of transformers make of the same files. Clips of up to 10 s have the
            same codes either way. With which of them the released models were trained is not known.

    Raises:
        ConfigError: if it cannot be loaded, or is another codec.
        UnsafeFileError: if its weights are no safetensors file.
    """
    # Prepare, exports and speaking hand on a source and nothing else.
    source, suffix, said = source.partition(SUFFIX)
    chosen = said if suffix else window
    if chosen not in get_args(Window):
        raise ConfigError(f"The window of the codec is off or on, not {chosen!r}.")
    held = chosen == "on"
    codec = tiny_codec(window=held) if source == TINY else read_codec(find_codec(source), window=held)
    return codec.to(device)
