"""Numerics that several backends share: the fused head and loss, and attention over packed documents.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.environment import without_cudnn_attention
from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.nn.devices import kept_table as kept_table, runs_on as runs_on
    from tts_train.nn.preference import Preference as Preference, prefer as prefer
    from tts_train.nn.reproducible import (
        deterministic_kernels as deterministic_kernels,
        drawn_on_cpu as drawn_on_cpu,
        exact_float32 as exact_float32,
        exponential_noise as exponential_noise,
    )
    from tts_train.sound import mel_triangles as mel_triangles

without_cudnn_attention()

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".devices": "kept_table runs_on",
        ".preference": "Preference prefer",
        ".reproducible": "deterministic_kernels drawn_on_cpu exact_float32 exponential_noise",
        "tts_train.sound": "mel_triangles",
    },
)
