"""The padded layouts that upstream trains with, its masking fault included, so that its figures can be met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from tts_train_gpt_sovits.networks.gpt.network import Attend, GptNetwork, in_top3, token_losses
from tts_train_gpt_sovits.networks.gpt.packing import PackedBatch
from tts_train_gpt_sovits.signal.frames import additive_mask, attend

PaddedLayout = Literal["upstream", "legacy"]
"""``upstream``: since July 2025; texts are padded on the right but masked on the left, so a shorter text loses its
first phonemes and attends to padding. ``legacy``: before; masked on the right, and the first code is never trained."""


@dataclass(frozen=True, kw_only=True)
class PaddedBatch:
    """A batch padded to its longest utterance."""

    phonemes: Tensor
    """(B, X), padded with 0."""
    text_lengths: Tensor
    bert: Tensor
    """(B, X, 1024)."""
    codes: Tensor
    """(B, Y), padded with anything."""
    code_lengths: Tensor


@dataclass(frozen=True, kw_only=True)
class PaddedOutput:
    """Losses over all positions, padding included: padded positions are trained to emit the end token."""

    logits: Tensor
    """(B, T, codes); T is Y + 1, or Y in the legacy layout."""
    targets: Tensor
    """(B, T)."""
    losses: Tensor
    """(B, T), in nats."""

    @property
    def loss_sum(self) -> Tensor:
        """Upstream's loss."""
        return self.losses.sum()

    @property
    def logps(self) -> Tensor:
        """Log-probability of each row (B,), padding included."""
        return -self.losses.sum(1)

    def top3(self, end: int) -> Tensor:
        """Return the share of codes (the end token left out) that are among the three likeliest."""
        spoken = self.targets != end
        return (in_top3(self.logits, self.targets) & spoken).sum() / spoken.sum().clamp(min=1)


def padded_forward(network: GptNetwork, batch: PaddedBatch, layout: PaddedLayout = "upstream") -> PaddedOutput:
    """Return the losses of a padded batch as upstream computes them."""
    texts, codes = batch.phonemes.shape[1], batch.codes.shape[1]
    end = network.config.end
    # Padding is an input, too: the end token stands at every padded place and is predicted there, as in upstream's
    # pad_y_eos and in its loss, which has no index to ignore (AR/models/t2s_model.py).
    ended = _ended(batch, end)
    everything = torch.arange(max(texts, codes), device=batch.phonemes.device)
    states = torch.cat(
        [
            network.embed_text(batch.phonemes, batch.bert, everything[:texts], texts),
            network.embed_codes(ended[:, :-1], everything[:codes], codes),
        ],
        dim=1,
    )
    seen = additive_mask(padded_mask(batch, layout), states)
    states = network.run_layers(states, _masked(seen, network.attention_dropout))
    logits = network.head(states[:, texts - (layout == "upstream") :])
    targets = ended if layout == "upstream" else ended[:, 1:]
    return PaddedOutput(
        logits=logits, targets=targets, losses=token_losses(logits.flatten(0, 1), targets.flatten()).view_as(targets)
    )


def padded_mask(batch: PaddedBatch, layout: PaddedLayout) -> Tensor:
    """Return what each position of [text | codes] sees, (B, 1, X + Y, X + Y)."""
    texts, codes = batch.phonemes.shape[1], batch.codes.shape[1]
    place = torch.arange(texts + codes, device=batch.phonemes.device)
    missing = texts - batch.text_lengths[:, None]
    # The fault: the mask hides the first places, and the padding is behind the text. The longest text of a batch is
    # right, every shorter one loses its first phonemes. Reproduced only to meet upstream's figures.
    in_text = place[:texts] >= missing if layout == "upstream" else place[:texts] < batch.text_lengths[:, None]
    real = torch.cat([in_text, place[:codes] < batch.code_lengths[:, None]], dim=1)
    # Phonemes, which come first, see the text to its end; codes only what is before them.
    order = place <= place.clamp(min=texts - 1)[:, None]
    return (real[:, None] & order)[:, None]


def unpack(batch: PackedBatch) -> PaddedBatch:
    """Return a packed batch's utterances with their chosen codes as a padded batch."""
    lengths = [count - 1 for count in batch["counts"]]
    return _padded(batch, list(torch.split(batch["codes"][: sum(lengths)], lengths)))


def unpack_rejected(batch: PackedBatch) -> PaddedBatch:
    """Return the same utterances with their rejected codes.

    Raises:
        ValueError: if the batch holds no pairs.
    """
    if "rejected_counts" not in batch:
        raise ValueError("The batch holds no rejected sequences.")
    lengths = [count - 1 for count in batch["counts"]]
    suffixes = [count - 1 for count in batch["rejected_counts"]]
    chosen = torch.split(batch["codes"][: sum(lengths)], lengths)
    rest = torch.split(batch["codes"][sum(lengths) :], suffixes)
    starts = [codes[:count] for codes, count in zip(chosen, batch["shared"], strict=True)]
    return _padded(batch, [torch.cat(parts) for parts in zip(starts, rest, strict=True)])


def _padded(batch: PackedBatch, codes: list[Tensor]) -> PaddedBatch:
    lengths = [span.end - span.start for span in batch["spans"][: len(codes)]]
    return PaddedBatch(
        phonemes=pad_sequence(list(torch.split(batch["phonemes"], lengths)), batch_first=True),
        text_lengths=_counts(lengths, batch["phonemes"]),
        bert=pad_sequence(list(torch.split(batch["bert"], lengths)), batch_first=True),
        codes=pad_sequence(codes, batch_first=True),
        code_lengths=_counts([len(each) for each in codes], batch["phonemes"]),
    )


def _counts(counts: list[int], like: Tensor) -> Tensor:
    """Return counts where ``like`` lies; the host does not wait for the copy."""
    return torch.tensor(counts, dtype=like.dtype).to(like.device, non_blocking=True)


def _ended(batch: PaddedBatch, end: int) -> Tensor:
    """Return the codes (B, Y + 1) with the end token everywhere behind each row's last one."""
    place = torch.arange(batch.codes.shape[1] + 1, device=batch.codes.device)
    inside = place < batch.code_lengths[:, None]
    return torch.where(inside, F.pad(batch.codes, (0, 1), value=end), end)


def _masked(mask: Tensor, dropout: float) -> Attend:
    def each(_: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (states.transpose(1, 2) for states in (query, key, value))
        done = attend(query, key, value, mask, dropout=dropout)
        return done.transpose(1, 2).flatten(2)

    return each
