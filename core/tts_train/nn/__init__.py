"""Numerics that several backends share: the fused head and loss, and attention over packed documents.

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.environment import without_cudnn_attention
from tts_train.lazy import lazy_names

if TYPE_CHECKING:
    from tts_train.mel import mel_edges as mel_edges, mel_triangles as mel_triangles
    from tts_train.nn.decoding.counter_noise import exponential_noise as exponential_noise
    from tts_train.nn.deterministic import deterministic_kernels as deterministic_kernels
    from tts_train.nn.seeded import drawn_on_cpu as drawn_on_cpu
    from tts_train.nn.tables import kept_table as kept_table
    from tts_train.nn.target import runs_on as runs_on

without_cudnn_attention()

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".decoding.counter_noise": "exponential_noise",
        ".deterministic": "deterministic_kernels",
        ".seeded": "drawn_on_cpu",
        ".tables": "kept_table",
        ".target": "runs_on",
        "tts_train.mel": "mel_edges mel_triangles",
    },
)
