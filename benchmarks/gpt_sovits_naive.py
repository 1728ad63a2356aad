"""Upstream's way of training GPT-SoVITS's text-to-semantic network, stated again plainly: the naive side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torchmetrics.classification import MulticlassAccuracy

from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.gpt.packing import GptUtterance


def naive_loss(network: GptNetwork, rows: Sequence[GptUtterance], accuracy: MulticlassAccuracy) -> Tensor:
    """Return the summed loss over padded rows: one mask a step, boolean, then a float for every head and pair.

    The arithmetic is the network's own layers; dropout is torch's. The text is masked on the right, as it is padded.
    """
    config, share = network.config, network.attention_dropout
    phonemes = pad_sequence([row.phonemes for row in rows], batch_first=True)
    bert = pad_sequence([row.bert for row in rows if row.bert is not None], batch_first=True)
    codes = pad_sequence([row.codes for row in rows], batch_first=True)
    texts, spoken = (torch.tensor([len(each) for each in column]) for column in _columns(rows))
    padding = torch.arange(codes.shape[1]) >= spoken[:, None]
    targets = F.pad(codes, (0, 1)) * F.pad(~padding, (0, 1)) + config.end * F.pad(padding, (0, 1), value=True)
    text = network.phoneme_embedding(phonemes) + network.bert_projection(bert)
    said = network.code_embedding(targets[:, :-1])
    text = F.dropout(network.text_position(text, torch.arange(text.shape[1]), text.shape[1]), share)
    said = F.dropout(network.code_position(said, torch.arange(said.shape[1]), said.shape[1]), share)
    mask = _mask(texts, text.shape[1], padding, config.heads)
    states = torch.cat([text, said], dim=1)
    for layer in network.layers:
        states = _layer(layer, states, mask, share)
    logits = network.head(states[:, text.shape[1] - 1 :]).permute(0, 2, 1)
    accuracy(logits.detach(), targets)
    return F.cross_entropy(logits, targets, reduction="sum")


def top3(end: int) -> MulticlassAccuracy:
    """Return the figure that upstream computes at every step."""
    return MulticlassAccuracy(
        end + 1, top_k=3, average="micro", multidim_average="global", ignore_index=end, validate_args=False
    )


class NaiveScaledAdam:
    """The released optimiser's rules over stacks of like tensors, each result in memory of its own."""

    def __init__(self, parameters: Sequence[Tensor], lr: float = 0.01) -> None:
        self.lr = lr
        self.groups: dict[str, list[Tensor]] = {}
        for parameter in parameters:
            self.groups.setdefault(str((parameter.dtype, *parameter.shape)), []).append(parameter)
        self.state: dict[str, dict[str, Any]] = {name: {} for name in sorted(self.groups)}
        self.norms = torch.zeros(1000)

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter once."""
        stacks = {}
        for name in self.state:
            members = self.groups[name]
            stacks[name] = torch.stack(members), torch.stack([each.grad for each in members if each.grad is not None])
        total = torch.tensor(0.0)
        for name, (values, gradient) in stacks.items():
            state = self.state[name]
            if not state:
                state.update(step=0, delta=torch.zeros_like(values), square=torch.zeros_like(values))
                state.update(rms=_rms(values), sizes=torch.zeros_like(_rms(values)))
                state.update(pulls=torch.zeros(4, *_rms(values).shape))
            total += ((gradient * state["rms"]) ** 2).sum()
        self.norms[next(iter(self.state.values()))["step"] % 1000] = total.sqrt()
        for name, (values, gradient) in stacks.items():
            self._move(self.state[name], values, gradient, single=values[0].numel() == 1)
            for member, value in zip(self.groups[name], values, strict=True):
                member.copy_(value)

    def _move(self, state: dict[str, Any], values: Tensor, gradient: Tensor, *, single: bool) -> None:
        step, delta = state["step"], state["delta"]
        delta.mul_(0.9)
        if not single:
            self._resize(state, values, gradient)
        state["square"].mul_(0.95).addcmul_(gradient, gradient, value=0.05)
        correction = 1 - 0.95 ** (step + 1)
        square = state["square"] / correction if correction < 0.99 or single else state["square"]
        normed = gradient / (square.sqrt() + 1e-8)
        if single:
            delta.add_(normed, alpha=-0.1 * self.lr * 0.1)
            values.clamp_(-10, 10)
        else:
            delta.add_(normed * state["rms"].clamp(min=1e-5), alpha=-self.lr * 0.1)
        values.add_(delta)
        state["step"] = step + 1

    def _resize(self, state: dict[str, Any], values: Tensor, gradient: Tensor) -> None:
        step = state["step"]
        axes = list(range(1, values.ndim))
        state["pulls"][step % 4] = (values * gradient).sum(axes, keepdim=True)
        if step % 4 != 3:
            return
        state["rms"].copy_(_rms(values))
        decay = 0.95**4
        state["sizes"].mul_(decay).add_((state["pulls"] ** 2).mean(0), alpha=1 - decay)
        correction = 1 - decay ** ((step + 1) // 4)
        move = -0.1 * self.lr * correction**0.5 * state["pulls"].sum(0) / (state["sizes"].sqrt() + 1e-8)
        move = torch.where(state["rms"] < 1e-5, torch.zeros_like(move), move)
        move = torch.where(state["rms"] > 3.0, torch.full_like(move, -0.4 * self.lr), move)
        state["delta"].add_(values * move, alpha=0.1)


def _columns(rows: Sequence[GptUtterance]) -> tuple[list[Tensor], list[Tensor]]:
    return [row.phonemes for row in rows], [row.codes for row in rows]


def _mask(texts: Tensor, longest: int, padding: Tensor, heads: int) -> Tensor:
    """Return what is added to the scores (B, heads, T, T)."""
    count = padding.shape[1]
    above = F.pad(torch.zeros(longest, longest, dtype=torch.bool), (0, count), value=True)
    below = F.pad(torch.triu(torch.ones(count, count, dtype=torch.bool), 1), (longest, 0))
    order = torch.cat([above, below])
    missing = torch.cat([torch.arange(longest) >= texts[:, None], padding], dim=1)
    size = longest + count
    each = missing.view(-1, 1, 1, size).expand(-1, heads, -1, -1).reshape(-1, 1, size)
    hidden = order[None].logical_or(each)
    added = torch.zeros_like(hidden, dtype=torch.float32).masked_fill_(hidden, float("-inf"))
    return added.view(-1, heads, size, size)


def _layer(layer: Any, states: Tensor, mask: Tensor, share: float) -> Tensor:
    batch, length, width = states.shape
    query, key, value = (
        each.view(batch, length, layer.heads, -1).transpose(1, 2) for each in layer.qkv(states).chunk(3, dim=-1)
    )
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=share)
    seen = seen.transpose(1, 2).reshape(batch, length, width)
    states = layer.norm1(states + F.dropout(layer.out(seen), share))
    normed: Tensor = layer.norm2(states + F.dropout(layer.down(F.dropout(F.relu(layer.up(states)), share)), share))
    return normed


def _rms(values: Tensor) -> Tensor:
    return (values**2).mean(list(range(1, values.ndim)), keepdim=True).sqrt()
