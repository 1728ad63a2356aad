"""Recompute the reference figures of flow matching (v3, v4) on a reduced estimator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.figures import Figure, unknown
from tests.gpt_sovits.filling import hash_u, inputs
from tests.gpt_sovits.sovits_figures import compare_probe, filled, gradients, named
from tts_train_gpt_sovits.networks.sovits.cfm import FlowMatching
from tts_train_gpt_sovits.networks.sovits.dit import Estimator
from tts_train_gpt_sovits.signal.frames import length_mask

_GIVEN = ("salt", "dit_kwargs", "mel_lens", "prompt_lens", "x_transformers", "draws")


def check(data: dict[str, Any]) -> Iterator[Figure]:
    """Yield every figure of a file of reduced flow matching."""
    for kind, fields in data.items():
        if kind in ("float32", "float64"):
            for field, expected in fields.items():
                yield from named(_field(data, field, expected, getattr(torch, kind)), f"{kind}.{field}.")
        elif kind not in _GIVEN:
            yield unknown(kind, fields)


def _field(data: dict[str, Any], field: str, expected: Any, dtype: torch.dtype) -> Iterator[Figure]:
    matching = _matching(data, dtype)
    content = _content(data, dtype)
    exact = dtype == torch.float64
    if field.endswith("_branch"):
        steps = torch.tensor(data["draws"]["randint_base"]) if field == "shortcut_branch" else None
        loss = _loss(matching, data, content, steps)
        loss.backward()
        yield Figure("loss", expected["loss"], float(loss.detach()), relative=1e-5 if exact else 1e-4)
        got = gradients(matching.estimator)
        yield Figure("grad_l2", expected["grad_l2"], got, relative=1e-4 if exact else 1e-3)
    elif field.startswith("inference_"):
        length, prompt = data["mel_lens"][0], data["prompt_lens"][0]
        mels = data["dit_kwargs"]["mel_dim"]
        mel, noise = (inputs(name, (1, mels, length), salt=data["salt"], dtype=dtype) for name in ("cfm.x1", "cfm.x0"))
        steps = int(field.split("_")[1])
        made = matching.sample(content[:1], torch.tensor([length]), mel[..., :prompt], steps=steps, noise=noise)
        yield from compare_probe("probe", expected, made)
    elif field == "estimator_output":
        yield from compare_probe("probe", expected, _velocity(matching, data, content))
    else:
        yield unknown("probe", expected)


def _matching(data: dict[str, Any], dtype: torch.dtype) -> FlowMatching:
    given = data["dit_kwargs"]
    estimator = Estimator(
        width=given["dim"],
        depth=given["depth"],
        heads=given["heads"],
        head_width=given["dim_head"],
        widening=given["ff_mult"],
        content=given["text_dim"],
        content_blocks=given["conv_layers"],
        mels=given["mel_dim"],
    )
    filled(estimator, salt=data["salt"], kind=dtype, prefix="cfm.estimator.")
    return FlowMatching(estimator)


def _content(data: dict[str, Any], dtype: torch.dtype) -> Tensor:
    shape = (len(data["mel_lens"]), data["dit_kwargs"]["text_dim"], max(data["mel_lens"]))
    return inputs("cfm.mu", shape, salt=data["salt"], dtype=dtype)


def _way(data: dict[str, Any], content: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mel frames, noise and times."""
    lengths = data["mel_lens"]
    shape = (len(lengths), data["dit_kwargs"]["mel_dim"], max(lengths))
    mel, noise = (inputs(name, shape, salt=data["salt"], dtype=content.dtype) for name in ("cfm.x1", "cfm.x0"))
    time = torch.from_numpy((hash_u(data["salt"] + "input.cfm.t", len(lengths)) + 1) / 2).to(content.dtype)
    return mel, noise, time


def _loss(matching: FlowMatching, data: dict[str, Any], content: Tensor, steps: Tensor | None) -> Tensor:
    mel, noise, time = _way(data, content)
    lengths, prompts = torch.tensor(data["mel_lens"]), torch.tensor(data["prompt_lens"])
    loss: Tensor = matching(mel, lengths, prompts, content, time=time, noise=noise, steps=steps)
    return loss


def _velocity(matching: FlowMatching, data: dict[str, Any], content: Tensor) -> Tensor:
    # The figure is of clean frames in place of noisy ones and half of them as the prompt, (B, T, mels).
    mel, _, time = _way(data, content)
    mask = length_mask(torch.tensor(data["mel_lens"]), mel.shape[-1])[:, 0] != 0
    velocity: Tensor = matching.estimator(mel, 0.5 * mel, mask, time, torch.zeros_like(time), content)
    return velocity.transpose(1, 2)
