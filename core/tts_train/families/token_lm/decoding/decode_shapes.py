"""Generation on the shapes of a card, for plans and tests: every operator of a step, without weights or a card."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig

from tts_train.families.token_lm.decoding.decoding import Decoding
from tts_train.families.token_lm.decoding.options import Sampling
from tts_train.families.token_lm.layout import TokenLayout
from tts_train.families.token_lm.network.start import empty_network


def decoding_on_shapes(
    layout: TokenLayout,
    config: LlamaConfig,
    *,
    rows: int,
    prompt: int,
    tokens: int,
    dtype: torch.dtype = torch.bfloat16,
    sampling: Sampling = Sampling(),
) -> Decoding:
    """Return a batch that is continued by a network of shapes on ``cuda``; :meth:`Decoding.advance` is one step of it.

    To be called, and its methods with it, within a ``FakeTensorMode`` and ``planning_for("cuda")``. There reading a
    value, and a shape that depends on values, raise.

    Args:
        layout: Of its ids.
        config: Of the network.
        rows: Utterances of the batch.
        prompt: Ids of each prompt.
        tokens: Most ids to generate.
        dtype: Type of the weights.
        sampling: How ids are drawn.
    """
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        lm = empty_network(config, dtype=dtype, device="meta")
    for module in lm.modules():
        for name, parameter in module.named_parameters(recurse=False):
            shape = torch.empty(parameter.shape, dtype=parameter.dtype, device="cuda")
            setattr(module, name, nn.Parameter(shape, requires_grad=False))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda"))
    prompts = [torch.zeros(prompt, dtype=torch.int64)] * rows
    lm.eval()
    limits: dict[str, Any] = {"seeds": [0] * rows, "limits": [tokens] * rows}
    return Decoding(layout, lm, prompts, **limits, sampling=sampling)  # type: ignore[arg-type]
