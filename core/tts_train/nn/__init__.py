"""Numerics that several backends share: the fused head and loss, and attention over packed documents."""

from __future__ import annotations

from tts_train.environment import without_cudnn_attention

without_cudnn_attention()
