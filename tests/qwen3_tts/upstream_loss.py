"""The losses that Qwen3-TTS's own fine-tuning script computes at its commit 022e286, fault by fault.

They are here to be measured against: what a network learns from them is not what it is asked when it speaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tts_train.families.token_lm.data.batch import NO_TARGET
from tts_train.families.token_lm.frames.network import FrameNetwork
from tts_train.families.token_lm.network.network import NetworkOutput
from tts_train.nn.linear_cross_entropy import HeadOutput


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Which of the four faults a loss has."""

    late: bool = True
    """First codes are learnt a position late: labels are shifted by the script, and once more inside the loss.

    The state two positions before a frame says its first code, that of the text's end the first frame's, and the state
    right before it learns the next frame's: the network learns to leave frames out, and speech becomes ever faster.
    """
    next_book: bool = True
    """The code predictor learns the next codebook: its labels are shifted although each has a head of its own.

    Head i - 1 learns code i + 1 in place of code i, and the last head nothing.
    """
    own_state: bool = True
    """The code predictor reads the talker's state at the frame, which has read all of the frame's codes already, in
    place of the state before it, which is what there is when the model speaks."""
    raw_text: bool = True
    """Rows of the text table are used without their projection, which then gets no gradient; the model speaks with it.

    Can be computed only where the text table is as wide as the talker, as in the 1.7B.
    """


UPSTREAM = {
    "upstream_head": Faults(),
    "upstream_head_projected": Faults(raw_text=False),
    "upstream_before_022e286_projected": Faults(raw_text=False, own_state=False),
}
"""By the names of the reference figures: the script as it is, as patched copies are, and as it was before."""


class UpstreamNetwork(FrameNetwork):
    """A :class:`FrameNetwork` whose loss has faults.

    Args:
        lm: As there.
        layout: As there.
        faults: Which.
    """

    def __init__(self, lm: Any, layout: Any, faults: Faults) -> None:
        super().__init__(lm, layout)
        self.faults = faults

    def forward(self, batch: Any) -> NetworkOutput:
        """Return upstream's losses of a batch."""
        return super().forward(self.shifted(batch))

    def shifted(self, batch: Any) -> Any:
        """Return the batch with the targets and the states at the places where upstream has them."""
        made = dict(batch)
        if self.faults.late:
            # A first code's target stands right before its frame; here it goes one further ahead.
            targets = batch["targets"].flatten().roll(-1)
            made |= {"targets": targets.view_as(batch["targets"]), "kept": (targets != NO_TARGET).nonzero()[:, 0]}
        if self.faults.own_state:
            made["before"] = batch["before"] + 1
        return made

    def embeds(self, batch: Any) -> Tensor:
        """Return the embeddings (B, T, H), of text rows without their projection where that is a fault."""
        if not self.faults.raw_text:
            return super().embeds(batch)
        talker = self.lm.talker
        projection, talker.text_projection = talker.text_projection, nn.Identity()
        try:
            return super().embeds(batch)
        finally:
            talker.text_projection = projection

    def depth_loss(self, hidden: Tensor, codes: Tensor, *, tokenwise: bool = False) -> HeadOutput:
        """Return the loss of codes 1 to K - 1, or of codes 2 to K - 1 where they are learnt by the wrong heads."""
        if not self.faults.next_book:
            return super().depth_loss(hidden, codes, tokenwise=tokenwise)
        logits, said = depth_logits(self, hidden, codes)[:, :-1].flatten(0, 1), codes[:, 2:]
        losses = cross_entropy(logits, said.flatten(), reduction="none")
        # Numbered as the heads are that learn them.
        rows = torch.arange(said.shape[1], device=codes.device) * self.layout.codebook_size
        targets, guessed = (rows + each for each in (said, logits.argmax(dim=-1).view_as(said)))
        return HeadOutput(
            loss_sum=losses.sum(), losses=losses.detach(), targets=targets.flatten(), predictions=guessed.flatten()
        )


def depth_logits(network: FrameNetwork, hidden: Tensor, codes: Tensor) -> Tensor:
    """Return the logits (M, K - 1, V) of codes 1 to K - 1 of frames (M, K) after the talker's states (M, H)."""
    states = network.depth_states(hidden, codes)[:, 1:]
    heads = network.lm.depth_weight().unflatten(0, (states.shape[1], -1))
    return torch.einsum("mkd,kvd->mkv", states, heads)
