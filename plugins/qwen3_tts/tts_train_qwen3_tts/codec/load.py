"""The way in: a codec by what the user gives for one."""

from __future__ import annotations

import torch

from tts_train.contract import ConfigError
from tts_train_qwen3_tts.codec.codec import QwenCodec
from tts_train_qwen3_tts.codec.files import find_codec, read_codec
from tts_train_qwen3_tts.codec.sizes import SUFFIX
from tts_train_qwen3_tts.codec.tiny import tiny_codec

TINY = "tiny"
"""The source that stands for a small codec with seeded weights."""


def load_codec(source: str, *, device: str | torch.device = "cpu") -> QwenCodec:
    """Load the codec of Qwen3-TTS.

    Args:
        source: A ``speech_tokenizer`` folder, a folder of a model that has one, a hub name of either
            (``Qwen/Qwen3-TTS-Tokenizer-12Hz``), or ``tiny``. With ``#window=on`` behind it the encoder's attention is
            held to the window that its configuration names, 10 s, as later versions of transformers do with the same
            files; with ``#window=off``, or neither, it is not, as upstream computes (transformers 4.57.3) and prepared
            its codes. Clips of up to 10 s have the same codes either way. With which of them the released models were
            trained is not known.
        device: Where it computes.

    Raises:
        ConfigError: if it cannot be loaded, or is another codec.
        UnsafeFileError: if its weights are no safetensors file.
    """
    # In one word, as prepare, exports and speaking hand on a source and nothing else.
    source, suffix, window = source.partition(SUFFIX)
    if suffix and window not in ("off", "on"):
        raise ConfigError(f"The window of the codec is off or on, not {window!r}.")
    held = window == "on"
    codec = tiny_codec(window=held) if source == TINY else read_codec(find_codec(source), window=held)
    return codec.to(device)
