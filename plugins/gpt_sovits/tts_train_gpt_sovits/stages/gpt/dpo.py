"""The stage ``dpo``, Direct Preference Optimization: its objective, and a training loop whose arguments are flags."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from tts_train.contract import ConfigError
from tts_train.nn import Preference, prefer
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork, GptOutput
from tts_train_gpt_sovits.networks.gpt.packing import PackedBatch
from tts_train_gpt_sovits.networks.gpt.padded import padded_forward, unpack, unpack_rejected
from tts_train_gpt_sovits.stages.gpt.module import GptModule
from tts_train_gpt_sovits.starts.adapters import adapters_off

if TYPE_CHECKING:
    from tts_train.contract import NoProbe, StageData
    from tts_train_gpt_sovits.stages.gpt.probe import GptProbe


UPSTREAM_BETA = 0.2


def preference(
    chosen: Tensor,
    rejected: Tensor,
    *,
    beta: float = UPSTREAM_BETA,
    label_smoothing: float = 0.0,
    reference: tuple[Tensor, Tensor] | None = None,
) -> Preference:
    """Return the objective of Rafailov et al. 2023 (arXiv 2305.18290), equation 7.

    Args:
        chosen: Log-probability of each chosen sequence under the network (B,).
        rejected: The same of the rejected ones.
        beta: How strongly the network is held to the reference.
        label_smoothing: Share of pairs assumed to be swapped, from 0 to below 0.5.
        reference: Log-probabilities of chosen and rejected under the reference network; None leaves them out, as
            upstream does: the network then moves away from rejected sequences with nothing that holds it back but the
            loss on the chosen ones.
    """
    return prefer(chosen, rejected, beta=beta, label_smoothing=label_smoothing, reference=reference)


class DpoModule(GptModule):
    """Train the text-to-semantic network on pairs, chosen over rejected.

    Args:
        beta: How strongly the network is held to the reference.
        label_smoothing: Share of pairs assumed to be swapped.
        reference: ``none`` as upstream; ``start`` holds the network to itself as it began: a frozen copy, or with
            ``method: lora`` the same network with its adapters off, which takes no memory.
        sft_weight: Weight of the ordinary loss beside the preference; rehearsal batches have that loss alone.
        **gpt: As for the stage ``gpt``. With ``padding: upstream`` the loss is upstream's: the sum of the ordinary
            losses and the preference, both over padded rows; reference, smoothing and weight must be left alone.
    """

    FIGURES: ClassVar[tuple[str, ...]] = (*GptModule.FIGURES, "preference", "margin", "pair_accuracy")

    def __init__(
        self,
        beta: float = UPSTREAM_BETA,
        label_smoothing: float = 0.0,
        reference: Literal["none", "start"] = "none",
        sft_weight: float = 1.0,
        **gpt: Any,  # noqa: ANN401 - GptModule's own
    ) -> None:
        super().__init__(**gpt)
        if beta <= 0 or sft_weight < 0 or not 0 <= label_smoothing < 0.5:
            raise ConfigError(
                "--model.beta must be above 0, --model.sft_weight 0 or more and --model.label_smoothing from 0 to "
                f"below 0.5; {beta}, {sft_weight} and {label_smoothing} were given."
            )
        if self.padding == "upstream" and (reference, sft_weight, label_smoothing) != ("none", 1.0, 0.0):
            raise ConfigError(
                "--model.padding upstream is upstream's objective, which has no reference, sft_weight or "
                "label_smoothing; leave them out, or use --model.padding none."
            )
        self.beta = beta
        self.label_smoothing = label_smoothing
        self.reference = reference
        self.sft_weight = sft_weight
        # In a list, so that the frozen copy is neither trained nor saved: it is made again from init_from.
        self._frozen: list[GptNetwork] = []

    def _begin(self, network: GptNetwork) -> None:
        super()._begin(network)
        if self._keeps_copy:
            self._frozen = [_frozen_copy(network)]

    def build_shapes(self) -> None:
        """Build the network as ``GptModule`` does, and its reference, which a memory estimate must see."""
        super().build_shapes()
        if self._frozen:
            self.planned_reference = self._frozen[0]

    def training_step(self, batch: PackedBatch, batch_idx: int) -> Tensor:
        """Return the preference and the weighted ordinary loss."""
        if self.padding == "upstream":
            return super().training_step(batch, batch_idx) if batch["rehearsed"] else self._upstream_step(batch)
        held = self._reference_logps(batch)
        output = self._forward(batch)
        sft, tokens = output.losses.mean(), len(output.losses)
        if batch["rehearsed"]:
            own, common = self.over_processes([sft, torch.zeros_like(sft)], [tokens, 0])
            self.log("train/loss", common[0], batch_size=1)
            return own[0]
        prefers = self._preference(output, held)
        own, common = self.over_processes([sft, prefers.loss], [tokens, len(prefers.margins)])
        # Weighted apart: an ordinary loss is a mean over tokens, a preference one over pairs, and processes have
        # different numbers of both.
        self._log_pairs(common[0], prefers, common[1])
        loss: Tensor = own[1] + self.sft_weight * own[0]
        return loss

    def probe(self, data: StageData) -> GptProbe | NoProbe:
        """Return what the training is measured by: codes that the network draws, and pairs of them."""
        from tts_train_gpt_sovits.stages.gpt.probe import probe_of

        return probe_of(self, data, preferring=True)

    def _upstream_step(self, batch: PackedBatch) -> Tensor:
        chosen, rejected = (padded_forward(self._built, of) for of in (unpack(batch), unpack_rejected(batch)))
        prefers = preference(chosen.logps, rejected.logps, beta=self.beta)
        self._log_pairs(chosen.losses.mean().detach(), prefers, prefers.loss.detach())
        # A sum over hundreds of tokens beside a mean over pairs: upstream's preference is a small part of its loss.
        return chosen.loss_sum + prefers.loss

    def _log_pairs(self, sft: Tensor, prefers: Preference, loss: Tensor) -> None:
        self.log("train/loss", sft, batch_size=1)
        figures = {"preference": loss, "margin": prefers.margins.mean(), "pair_accuracy": prefers.accuracy}
        self.log_dict({f"train/{name}": value for name, value in figures.items()}, batch_size=1)

    def validation_step(self, batch: PackedBatch, batch_idx: int) -> None:
        """Add a batch to the sums, with its pairs."""
        output, held = self._forward(batch), self._reference_logps(batch)
        self.add_figures(output, batch)
        if batch["rehearsed"]:
            return
        prefers = self._preference(output, held)
        count = len(prefers.margins)
        self.add_figure("preference", prefers.loss * count, count)
        self.add_figure("margin", prefers.margins.sum(), count)
        self.add_figure("pair_accuracy", prefers.accuracy * count, count)

    def _preference(self, output: GptOutput, held: tuple[Tensor, Tensor] | None) -> Preference:
        return preference(
            output.chosen_logps,
            output.rejected_logps,
            beta=self.beta,
            label_smoothing=self.label_smoothing,
            reference=held,
        )

    def _reference_logps(self, batch: PackedBatch) -> tuple[Tensor, Tensor] | None:
        """Return the log-probabilities of chosen and rejected under the reference, without dropout.

        Rehearsal, which has no pairs, goes through it too where the network is sharded: its processes gather each block
        together, so all must call it equally often, whatever batch each has.
        """
        if self.reference == "none" or (batch["rehearsed"] and self.device_mesh is None):
            return None
        with torch.no_grad(), self._as_reference() as network:
            start: GptOutput = network(batch)
        return None if batch["rehearsed"] else (start.chosen_logps, start.rejected_logps)

    @property
    def _keeps_copy(self) -> bool:
        return self.reference == "start" and self.method == "full"

    @contextmanager
    def _as_reference(self) -> Iterator[GptNetwork]:
        if self._frozen:
            yield self._frozen[0].to(self.device)
            return
        training = self._built.training
        with adapters_off(self._built.eval()):
            yield self._built
            self.divide_again()  # adapters are turned on again on the shards, not on gathered copies of them
        self._built.train(training)


def _frozen_copy(network: GptNetwork) -> GptNetwork:
    # In evaluation mode: with dropout the reference would differ from itself, and margins of equal networks would not
    # be 0.
    return deepcopy(network).requires_grad_(False).eval()
