"""The training module of pairs: which objective, held to which reference; each argument is a flag below ``--model``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from tts_train.contract.data import AUTO
from tts_train.contract.module import Work
from tts_train.errors import ConfigError
from tts_train.families.token_lm.frames.layout import FrameLayout
from tts_train.families.token_lm.module import TokenModule
from tts_train.families.token_lm.preference.batch import sequence_logps
from tts_train.families.token_lm.preference.reference import StartLogps, StartNetwork, start_logps
from tts_train.nn.preference import (
    SMOOTHED,
    WITHOUT_REFERENCE,
    Objective,
    Preference,
    divergence,
    in_pairs,
    mean_loss,
    prefer,
)
from tts_train.parallel.means import Means
from tts_train.run.checkpoint import is_run, open_checkpoint
from tts_train.sampling.identity import hash_weights

if TYPE_CHECKING:
    from tts_train.contract.data import StageData
    from tts_train.families.token_lm.preference.data import NumberedPairs, PairData
    from tts_train.families.token_lm.preference.probe import PairProbe


logger = logging.getLogger(__name__)

STATE = "start_logps"
"""Where a checkpoint keeps the log-probabilities under the network as it started."""
FIGURES = ("preference", "margin", "pair_accuracy", "chosen_reward", "rejected_reward")
"""Means over pairs; ``sft`` and ``kl`` are means over tokens."""
BY_TOKEN = ("sft", "kl")


class PreferenceModule(TokenModule):
    """Train a language model of codec tokens on pairs of takes, of which one is better.

    Stands before the backend's own module among the base classes of a backend's subclass. It logs ``preference`` (the
    objective), ``sft`` (the ordinary loss of the better takes), ``loss`` (what is trained: the first plus the weighed
    second), ``chosen_reward`` and ``rejected_reward`` (beta times what a take's log-probability gained on the
    reference), ``margin`` (the first less the second), ``pair_accuracy`` (share of pairs with a margin above 0), and
    ``kl``: how much less likely a token of the takes is than under the reference, in nats, which estimates the
    divergence where the takes were drawn from it.

    Args:
        loss: ``sigmoid`` is Direct Preference Optimization, ``robust`` the same where a known share of pairs is
            swapped, ``sigmoid_norm`` the same over means per token, so that long takes do not count more; ``ipo`` is a
            squared loss that brings the difference of such means to a fixed size; ``orpo`` needs no reference.
        beta: How strongly the network is held to the reference, above 0.
        label_smoothing: Share of pairs assumed to be swapped, from 0 to below 0.5; not for ``ipo`` and
            ``orpo``.
        sft_weight: Weight of the ordinary loss of the better takes beside the preference; ``auto`` is 1 with ``orpo``,
            whose objective has that loss, and else 0.
        options: Those of :class:`TokenModule`, and of the backend's own module.
    """

    def __init__(
        self,
        loss: Objective = "sigmoid",
        beta: float = 0.1,
        label_smoothing: float = 0.0,
        sft_weight: float | Literal["auto"] = "auto",
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**options)
        # Odds alone would be raised by making both takes less likely, the better one a little less so.
        weight = float(loss in WITHOUT_REFERENCE) if sft_weight == AUTO else float(sft_weight)
        if beta <= 0 or weight < 0 or not 0 <= label_smoothing < 0.5:
            raise ConfigError(
                "--model.beta must be above 0, --model.sft_weight 0 or more and --model.label_smoothing from 0 to "
                f"below 0.5; {beta:g}, {weight:g} and {label_smoothing:g} were given."
            )
        if label_smoothing and loss not in SMOOTHED:
            raise ConfigError(
                f"--model.label_smoothing is for --model.loss {', '.join(SMOOTHED)}; with {loss} leave it at 0."
            )
        self.objective = loss
        self.beta = beta
        self.label_smoothing = label_smoothing
        self.sft_weight = weight
        self._start = StartLogps()
        self._frozen = StartNetwork()
        self._sums: Means | None = None

    def setup(self, stage: str) -> None:
        """Refuse what the base cannot take, and say where it is not the model that drew the takes."""
        super().setup(stage)
        drawn = {} if self._pairs is None else self._pairs.parts["train"].source.drawn_with
        start = Path(self.init_from).expanduser()
        # A folder of an export is not compared: all of its files would have to be read for it.
        if "weights_hash" not in drawn or (start.exists() and not is_run(start)):
            return
        if hash_weights(open_checkpoint(start).path if is_run(start) else start) != drawn["weights_hash"]:
            logger.warning(
                "The takes were drawn with other weights (%s) than --model.init_from %s has: the model learns from "
                "faults that may not be its own. Give the model that drew them, or draw takes with this one.",
                drawn.get("source"),
                self.init_from,
            )

    def build(self) -> None:
        """Build the network from :attr:`init_from`, and what else its reference needs.

        Raises:
            ConfigError: if the reference cannot be computed with these options.
        """
        super().build()
        # Pairs that stay the same are computed once, before the first step.
        if self._refers and self._pairs is not None and not self._pairs.fixed:
            compared = "Pairs that are made of a prepared set are"
            self._frozen.keep(self, compared=compared, instead="give takes: tts-train sample.")

    def on_train_start(self) -> None:
        """Compute the reference before the first step; a run that continues has it."""
        self._begin()

    def on_validation_start(self) -> None:
        """Compute the reference before the first validation, that of a base which was not trained yet."""
        self._begin()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the reference beside the weights."""
        super().on_save_checkpoint(checkpoint)
        if self._start:
            checkpoint[STATE] = self._start.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the reference, besides what every stage does.

        Raises:
            ConfigError: if the pairs are not those of the run.
        """
        super().on_load_checkpoint(checkpoint)
        # A table of all pairs, and no weights: exports know nothing of it.
        if self._keeps_numbers:
            assert self._pairs is not None
            self._start.load(checkpoint[STATE], self._pairs)

    def logps(self, batch: NumberedPairs) -> Tensor:
        """Return the log-probabilities (2 P,) that enter the preference: better, worse of pair after pair."""
        assert self.network is not None
        return sequence_logps(self.network(batch, tokenwise=True), batch)

    def training_step(self, batch: NumberedPairs, batch_idx: int) -> Tensor:  # type: ignore[override]
        """Return the mean preference over all processes' pairs plus the weighed mean loss of their better takes."""
        # Before the pass that is trained: FSDP divides again what a pass without gradients has gathered.
        held = self._held(batch, "train")
        logps = self.logps(batch)
        found, figures = self._judged(logps, held, batch)
        # Weighed apart: an ordinary loss is a mean over tokens, a preference one over pairs, and processes have
        # different numbers of both.
        pairs, tokens = len(batch["rows"]), in_pairs(batch["said"])[0].sum()
        sft = mean_loss(in_pairs(logps)[0], in_pairs(batch["said"])[0])
        counts = [pairs, tokens, *(tokens if name in BY_TOKEN else pairs for name in figures)]
        own, common = self.over_processes([found.loss, sft, *figures.values()], counts)
        # batch_size is said, as Lightning would look through the batch to guess it.
        self.log("train/loss", common[0] + self.sft_weight * common[1], batch_size=1)
        # Written every few steps only, since each figure is read from the card.
        if self._logs_now():
            named = dict(zip(("preference", "sft", *figures), common, strict=True))
            self.log_dict({f"train/{name}": value for name, value in named.items()}, batch_size=1)
        loss: Tensor = own[0] + self.sft_weight * own[1]
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin new sums."""
        self._sums = Means((*FIGURES, *BY_TOKEN), self.device)

    def validation_step(self, batch: NumberedPairs, batch_idx: int) -> None:  # type: ignore[override]
        """Add a batch to the sums."""
        assert self._sums is not None
        held = self._held(batch, "val")
        logps = self.logps(batch)
        found, figures = self._judged(logps, held, batch)
        pairs, said = len(batch["rows"]), in_pairs(batch["said"])
        self._sums.add("preference", found.losses.sum(), pairs)
        self._sums.add("sft", -in_pairs(logps)[0].sum(), said[0].sum())
        for name, mean in figures.items():
            count = batch["said"].sum() if name in BY_TOKEN else pairs
            self._sums.add(name, mean * count, count)

    def on_validation_epoch_end(self) -> None:
        """Log the figures over the whole set, whatever batch and process a pair was in."""
        assert self._sums is not None
        figures = self._sums.over(self.trainer.strategy)
        # Of sums over tokens and sums over pairs, so it is made when both means are known.
        figures["loss"] = figures["preference"] + self.sft_weight * figures["sft"]
        # Equal on all processes already; Lightning warns of figures that are not said to be.
        self.log_dict({f"val/{name}": value for name, value in figures.items()}, batch_size=1, sync_dist=True)
        self._sums = None

    def work_in(self, batch: NumberedPairs) -> Work:  # type: ignore[override]
        """Return the positions that are computed, and the seconds of speech in both takes."""
        return Work(tokens=batch["collapse"].numel(), audio_seconds=batch["audio_seconds"])

    def probe(self, data: StageData) -> PairProbe:
        """Return what the training is measured by: pairs of utterances that the network draws."""
        from tts_train.families.token_lm.preference.probe import FramePairProbe, PairProbe

        return (FramePairProbe if isinstance(self.token_lm.layout, FrameLayout) else PairProbe)(self, data)

    def _judged(self, logps: Tensor, held: Tensor | None, batch: NumberedPairs) -> tuple[Preference, dict[str, Tensor]]:
        """Return the objective, and means over pairs or tokens that are logged."""
        chosen, rejected = in_pairs(logps)
        # Counts go in always: what an objective has no use for it leaves alone.
        found = prefer(
            chosen,
            rejected,
            beta=self.beta,
            objective=self.objective,
            label_smoothing=self.label_smoothing,
            reference=None if held is None else in_pairs(held),
            counts=in_pairs(batch["said"]),
        )
        figures = {
            "margin": found.margins.mean(),
            "pair_accuracy": found.accuracy,
            "chosen_reward": found.chosen_rewards.mean(),
            "rejected_reward": found.rejected_rewards.mean(),
        }
        if held is not None:
            figures["kl"] = divergence(logps, held, batch["said"])
        return found, figures

    def _held(self, batch: NumberedPairs, part: str) -> Tensor | None:
        """Return the log-probabilities (2 P,) under the reference; None for an objective without one."""
        if not self._refers:
            return None
        if self._start:
            return self._start.of(part, batch["rows"])
        if self._pairs is None:
            # A plan has a batch and no pairs; how much memory a step takes does not depend on the numbers.
            return torch.zeros_like(batch["said"], dtype=torch.float32)
        with self._frozen.now(self) as network:
            return start_logps(network, batch)

    def _begin(self) -> None:
        if self._keeps_numbers and not self._start:
            assert self._pairs is not None
            assert self.network is not None
            self._start.compute(self, self.network, self._pairs)

    @property
    def _pairs(self) -> PairData | None:
        return cast("PairData | None", self.stage_data)

    @property
    def _refers(self) -> bool:
        return self.objective not in WITHOUT_REFERENCE

    @property
    def _keeps_numbers(self) -> bool:
        return self._refers and self._pairs is not None and self._pairs.fixed
