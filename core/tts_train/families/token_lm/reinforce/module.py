"""The training module of takes that the network draws; each argument is a flag below ``--model``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from tts_train.contract.module import Work
from tts_train.errors import ConfigError
from tts_train.families.token_lm.frames.layout import FrameLayout
from tts_train.families.token_lm.module import TokenModule
from tts_train.families.token_lm.preference.batch import token_logps
from tts_train.families.token_lm.preference.reference import StartNetwork
from tts_train.families.token_lm.reinforce.drawing import Drawing
from tts_train.families.token_lm.reinforce.guards import GuardOptions, Guards
from tts_train.families.token_lm.reinforce.judge import Start, mean
from tts_train.families.token_lm.reinforce.takes import StepTakes, TakenBatch, TakenGroup
from tts_train.nn.policy import Aggregation, PolicyLoss, Scale, aggregated, next_kl_weight, policy_loss

if TYPE_CHECKING:
    from tts_train.contract.data import StageData
    from tts_train.contract.metric import Metric
    from tts_train.families.token_lm.reinforce.data import PromptData, Turn
    from tts_train.families.token_lm.reinforce.judge import HeardTake
    from tts_train.families.token_lm.reinforce.probe import GroupProbe
    from tts_train.families.token_lm.reinforce.voice import TextVoice

STATE = "reinforce"
"""Where a checkpoint keeps what a run goes on with besides weights."""


@dataclass
class _Sums:
    """What the batches of a step add up to."""

    loss: Tensor
    kl: Tensor
    clipped: Tensor
    tokens: int


class ReinforceModule(TokenModule):
    """Train a language model of codec tokens on takes that it draws itself, by what is measured of them (GRPO).

    Stands before the backend's own module among the base classes of a backend's subclass. A step draws ``group`` takes
    of each of its texts, measures them, and makes those likelier that are better than the others of their text. It logs
    ``reward`` (by how many deviations of the start the rewarded figures have risen), the mean of each figure, ``kl``
    (divergence from the start, nats a token), ``kl_weight``, ``clipped`` (share of tokens beyond the bounds of the
    ratio), ``length`` (seconds of speech for a letter, as a share of those at the start), ``take_tokens``, ``ended``
    and ``judged`` (shares of the takes), and the shares of the time that drawing, measuring and steps take. In a
    validation held-out texts are said once each, with the same seeds every time; ``val/loss`` is their ``reward`` with
    the other sign.

    Args:
        reward: What counts, as ``tts-train sample --reward`` has it: figures or short words with a weight and, if need
            be, a floor, as in ``words:1, speaker:0.3:0.7, stop:1``; empty takes what is usual and can be measured.
        weights: Models of yours by metric: ``--model.weights.recognition large-v3``.
        group: Takes of each text, 2 or more.
        passes: How often a step's takes are learnt from before new ones are drawn; each is an optimiser step.
        loss: ``grpo`` is the mean over takes of the mean over their tokens, ``dapo`` the mean over all tokens,
            ``dr_grpo`` a sum that is divided by the longest that takes may be.
        scale: What differences of rewards are divided by: their deviation in the ``group``, over the ``batch`` of a
            step's takes, or nothing (``none``).
        clip_low: How far a token's ratio may fall below 1 before it counts no further.
        clip_high: How far it may rise above 1.
        kl: Weight of the divergence from the network as it started, in nats a token.
        kl_target: Divergence that the weight is adapted to, up to 2 % a step; 0 leaves the weight as it is.
        guards: Bounds beyond which the run ends by itself.
        watch: A figure that is never rewarded, such as ``distillmos`` or ``wavlm_similarity``: the run ends when its
            mean over held-out texts leaves the 95 % interval that it had before training.
        options: Those of :class:`TokenModule`, and of the backend's own module.
    """

    def __init__(
        self,
        reward: str = "",
        weights: dict[str, str] = {},  # noqa: B006 - read only; the parser shows defaults
        group: int = 8,
        passes: int = 1,
        loss: Aggregation = "grpo",
        scale: Scale = "group",
        clip_low: float = 0.2,
        clip_high: float = 0.2,
        kl: float = 0.04,
        kl_target: float = 0.0,
        guards: GuardOptions = GuardOptions(),
        watch: str = "",
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**options)
        if group < 2 or passes < 1 or not 0 < clip_low < 1 or clip_high <= 0 or kl < 0 or kl_target < 0:
            raise ConfigError(
                "--model.group must be 2 or more, passes 1 or more, clip_low between 0 and 1, clip_high above 0, kl "
                f"and kl_target 0 or more; {group}, {passes}, {clip_low:g}, {clip_high:g}, {kl:g}, {kl_target:g} were "
                "given."
            )
        # A factor never moves a weight of 0.
        if kl_target and not kl:
            raise ConfigError("--model.kl_target adapts --model.kl, which is 0. Give it a weight to begin with.")
        if self.lora.dropout:
            raise ConfigError(
                "--model.lora.dropout must be 0 here: takes are drawn without it, and each token is compared with the "
                "probability that it was drawn with."
            )
        if self.head.softmax == "audio":
            raise ConfigError(
                "--model.head.softmax audio trains against control ids that are never drawn, so probabilities in "
                "training are not those of drawing. Give full or slot."
            )
        self.reward, self.metric_weights, self.watch = reward, dict(weights), watch
        self.group, self.passes = group, passes
        self.aggregation, self.scale = loss, scale
        self.clip_low, self.clip_high = clip_low, clip_high
        self.kl_target = kl_target
        self.guards = Guards(guards)
        self._refers = bool(kl or guards.kl)
        self.kl = self._kl_weight = kl
        self._as_start = StartNetwork()
        self._offered: Callable[[Mapping[str, str]], Sequence[Metric]] | None = None
        self._drawing: Drawing | None = None
        self._takes: StepTakes | None = None
        self._start: Start | None = None
        self._sums: _Sums | None = None
        self._heard: list[HeardTake] = []
        self._ended_at = time.monotonic()
        self._work = Work(0, 0.0)

    def offer(self, metrics: Callable[[Mapping[str, str]], Sequence[Metric]]) -> None:
        """Take up what can measure sound: the metrics of ``tts-train eval`` for this stage."""
        self._offered = metrics

    def setup(self, stage: str) -> None:
        """Refuse what cannot be trained or rewarded, before any weight is loaded.

        Raises:
            ConfigError: naming the options.
        """
        super().setup(stage)
        data = self._data
        if data is None:
            return
        # The parser links them; a program that builds both by hand may not.
        accumulated = self.trainer.accumulate_grad_batches
        if self.trainer.world_size > 1:
            raise ConfigError("Takes are drawn by one process: give --trainer.devices 1 and --trainer.num_nodes 1.")
        if (data.group, data.passes, accumulated) != (self.group, self.passes, data.texts):
            raise ConfigError(
                f"--data.group {data.group}, --data.passes {data.passes} and --trainer.accumulate_grad_batches "
                f"{accumulated} follow --model.group {self.group}, --model.passes {self.passes} and --data.texts "
                f"{data.texts}. Leave the first three out."
            )
        self._drawing = Drawing(self, data, self._offered)
        if self.watch and len(data.held_rows) < 2:
            raise ConfigError(
                f"--model.watch is measured of held-out texts, and has an interval from two on; there are "
                f"{len(data.held_rows)}: raise --data.val_share."
            )

    def build(self) -> None:
        """Build the network from :attr:`init_from`, and what else its reference needs.

        Raises:
            ConfigError: if the reference cannot be had with these options.
        """
        super().build()
        if self._refers and self._data is not None:
            instead = "give --model.kl 0 and --model.guards.kl 0."
            self._as_start.keep(self, compared="Takes of the network are", instead=instead)

    def build_shapes(self) -> None:
        """Build the network on ``meta`` without reading a weight, and the copy that a plan has to count."""
        super().build_shapes()
        if self._refers and self.method == "full":
            self.start_shapes = deepcopy(self.network).requires_grad_(False)  # type: ignore[union-attr]

    def on_fit_start(self) -> None:
        """Make the prompts of all texts, so that one that cannot be said is named before the first step."""
        if self._drawing is not None:
            self._drawing.check_prompts()

    def on_train_start(self) -> None:
        """Refuse to watch a figure of which nothing is known from before training."""
        self._ended_at = time.monotonic()
        if self._drawing is not None:
            self.guards.require_start(self._drawing.judge.watched)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401 - a Turn, or takes of a plan
        """Return the loss of a text's takes as its part of the step; takes of a step are drawn at its first batch."""
        if "gains" in batch:
            # A plan or a check has takes already, and no texts.
            return self._learnt(batch, None, len(batch["sizes"]))[0]
        turn: Turn = batch
        # All texts of the step at once, at the first of them.
        takes = self._takes_of(turn)
        group = takes.groups[turn["place"]]
        made = self.transfer_batch_to_device(group.batch(self.token_lm.layout), self.device, 0)
        self._work = Work(tokens=made["collapse"].numel(), audio_seconds=made["audio_seconds"])
        loss, found = self._learnt(made, group, self._whole(takes, len(turn["texts"])))
        # Read at the end of the step alone, where the host waits for the card once.
        self._add(loss, found, first=turn["place"] == 0)
        if turn["place"] + 1 == len(turn["texts"]):
            self._end_step(takes)
            # A checkpoint of this step then holds none, and the next step draws its own.
            if turn["lap"] + 1 == self.passes:
                self._takes = None
        return loss

    def on_validation_epoch_start(self) -> None:
        """Begin anew."""
        self._heard = []

    def validation_step(self, batch: Turn, batch_idx: int) -> None:  # type: ignore[override]
        """Say held-out texts and measure them."""
        assert self._drawing is not None
        self._heard += self._drawing.held_out(batch["texts"])

    def on_validation_epoch_end(self) -> None:
        """Log what was measured, and end the run where a figure that is only watched has fallen."""
        assert self._drawing is not None
        judge, heard = self._drawing.judge, self._heard
        table = judge.table(heard)
        # The validation before the first step says what the network is like as it starts.
        if self._start is None:
            self._start = Start.of(judge, heard, table)
        figures = self._figures(heard, table)
        if "reward" in figures:
            figures["loss"] = -figures["reward"]
        # One process; Lightning warns of figures that are not said to be the same on all.
        self.log_dict({f"val/{name}": value for name, value in figures.items()}, batch_size=1, sync_dist=True)
        if judge.watched is None:
            return
        values = [value for value in table[judge.watched.figure.name] if value is not None]
        step = self.trainer.global_step
        why = self.guards.watch(step, judge.watched, values, seed=self._drawing.data.seed)
        if why is not None and not self.trainer.sanity_checking:
            self.stop(why)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the run goes on with: takes of which passes are left, the weight of the divergence, the start."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[STATE] = {
            "takes": None if self._takes is None else self._takes.state(),
            "kl_weight": [self.kl, self._kl_weight],
            "start": None if self._start is None else [dict(self._start.scales), self._start.pace],
            "guards": self.guards.state(),
            "stopped": self.stopped is not None,
            "wishes": None if self._drawing is None else self._drawing.judge.wishes,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up, besides what every stage does.

        Raises:
            ConfigError: if what was rewarded cannot be measured any more.
        """
        super().on_load_checkpoint(checkpoint)
        state = checkpoint[STATE]
        self._takes = None if state["takes"] is None else StepTakes.of(state["takes"])
        begun, adapted = state["kl_weight"]
        # Another --model.kl begins at what is given.
        self._kl_weight = adapted if begun == self.kl else self.kl
        self._start = None if state["start"] is None else Start(*state["start"])
        self.guards.load(state["guards"], stopped=state["stopped"])
        if self._drawing is not None and state["wishes"] is not None:
            self._drawing.go_on_with(state["wishes"])

    def work_in(self, batch: Any) -> Work:  # noqa: ANN401 - a Turn, or takes of a plan
        """Return the positions that are computed, and the seconds of speech in the takes."""
        if "gains" in batch:
            return Work(tokens=batch["collapse"].numel(), audio_seconds=batch["audio_seconds"])
        return self._work

    def voice(self) -> TextVoice:  # type: ignore[override]
        """Return what speaks with the weights as they are, as the model is usually spoken with."""
        assert self._drawing is not None
        return self._drawing.voice

    def probe(self, data: StageData) -> GroupProbe:
        """Return what the training is measured by: groups of utterances that the network draws."""
        from tts_train.families.token_lm.reinforce.probe import FrameGroupProbe, GroupProbe

        return (FrameGroupProbe if isinstance(self.token_lm.layout, FrameLayout) else GroupProbe)(self, data)

    def logps(self, batch: TakenBatch) -> Tensor:
        """Return the log-probabilities (N,) that enter the ratio, take after take."""
        assert self.network is not None
        return token_logps(self.network(batch, tokenwise=True), batch)

    def _learnt(self, batch: TakenBatch, group: TakenGroup | None, whole: float) -> tuple[Tensor, PolicyLoss]:
        """Return the loss of a text's takes, and what it is made of; the group keeps what later passes need."""
        if self._refers and group is not None and group.reference is None:
            group.reference = self._reference(batch)
        logps = self.logps(batch)
        # The network has not changed since it drew them: their log-probabilities are those of the first pass.
        old = logps.detach() if group is None or group.old is None else group.old.to(logps.device)
        reference = None if group is None or group.reference is None else group.reference.to(logps.device)
        if group is not None and self.passes > 1:
            group.old = old
        found = policy_loss(
            logps,
            old,
            torch.repeat_interleave(batch["gains"], batch["said"], output_size=len(logps)),
            low=self.clip_low,
            high=self.clip_high,
            reference=reference,
            kl_weight=self._kl_weight,
        )
        # A step without any take that could be judged has nothing to be divided by, and teaches nothing.
        return aggregated(
            found.losses, batch["sizes"], self.aggregation, weights=batch["counts"], whole=max(whole, 1e-9)
        ), found

    @torch.no_grad()
    def _reference(self, batch: TakenBatch) -> Tensor:
        with self._as_start.now(self) as network:
            # Without dropout, as it would draw: the first step's divergence is exactly 0.
            training = network.training
            network.eval()
            held = token_logps(network(batch, tokenwise=True), batch)
            network.train(training)
        # Half copies of weights that were made without gradients would be used again by the pass that is trained.
        torch.clear_autocast_cache()
        return held

    def _whole(self, takes: StepTakes, texts: int) -> float:
        """Return what the losses of a step's takes are divided by, for one of its batches."""
        # Lightning divides by the batches of a step besides.
        if self.aggregation == "dapo":
            return takes.tokens(self.token_lm.layout) / texts
        if self.aggregation == "dr_grpo":
            assert self._drawing is not None
            return takes.judged * self._drawing.longest / texts
        return takes.judged / texts

    def _takes_of(self, turn: Turn) -> StepTakes:
        if self._takes is None or self._takes.step != turn["step"]:
            assert self._drawing is not None
            self._takes, heard, table = self._drawing.step(turn, self.scale)
            if self._start is None:
                self._start = Start.of(self._drawing.judge, heard, table)
            self._takes.figures |= self._figures(heard, table)
        return self._takes

    def _figures(self, heard: Sequence[HeardTake], table: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
        """Return what is logged of takes: the mean of each figure, and how they compare with the start."""
        assert self._drawing is not None
        assert self._start is not None
        found = {name: mean(values) for name, values in table.items()}
        found["reward"] = self._start.risen(self._drawing.judge, heard, table)
        pace = mean([each.pace for each in heard])
        found["length"] = pace / self._start.pace if pace is not None and self._start.pace else None
        found["ended"] = mean([float(each.drawn.ended) for each in heard])
        found["take_tokens"] = mean([float(len(each.drawn.columns["drawn_ids"])) for each in heard])
        return {name: value for name, value in found.items() if value is not None}

    def _add(self, loss: Tensor, found: PolicyLoss, *, first: bool) -> None:
        new = (loss.detach(), found.kl.sum(), found.clipped.sum())
        # The first of its step: one that an epoch's limit has cut short may have left sums.
        if first or self._sums is None:
            self._sums = _Sums(*new, tokens=len(found.kl))
            return
        sums = self._sums
        sums.loss, sums.kl, sums.clipped = (
            one + other for one, other in zip((sums.loss, sums.kl, sums.clipped), new, strict=True)
        )
        sums.tokens += len(found.kl)

    def _end_step(self, takes: StepTakes) -> None:
        """Log a step, adapt the weight of the divergence, and end the run where a guard says so."""
        assert self._sums is not None
        sums, self._sums = self._sums, None
        kl = float(sums.kl) / sums.tokens
        figures = dict(takes.figures)
        self.log("train/loss", sums.loss / self.trainer.accumulate_grad_batches, batch_size=1)
        now, (drew, measured) = time.monotonic(), takes.seconds
        whole = max(now - self._ended_at, 1e-9)
        self._ended_at, takes.seconds = now, (0.0, 0.0)
        figures |= {"kl": kl, "kl_weight": self._kl_weight, "clipped": float(sums.clipped) / sums.tokens}
        figures |= {"share_sampling": drew / whole, "share_scoring": measured / whole}
        # What is left is forward, backward and the optimiser, and a validation or a checkpoint in between.
        figures["share_steps"] = max(0.0, 1 - figures["share_sampling"] - figures["share_scoring"])
        self.log_dict({f"train/{name}": value for name, value in figures.items()}, batch_size=1)
        # For the next step: this one's batches have used the weight that is logged.
        if self.kl_target:
            self._kl_weight = next_kl_weight(self._kl_weight, kl, self.kl_target)
        # The step that the optimiser is about to take counts with this batch.
        judged = {"kl": kl, "length": figures.get("length"), "silence": figures.get("long_silence")}
        why = self.guards.judge(self.trainer.global_step + 1, judged)
        if why is not None:
            self.stop(why)

    @property
    def _data(self) -> PromptData | None:
        return cast("PromptData | None", self.stage_data)
