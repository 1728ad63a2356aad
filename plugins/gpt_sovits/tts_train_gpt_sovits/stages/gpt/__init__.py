"""Stages ``gpt`` and ``dpo``: data, training loops, ScaledAdam and its schedule."""
