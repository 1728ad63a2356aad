"""Draws and measures the takes of a step: a function of the weights, the run's seed and the step's number alone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tts_train.families.token_lm.preference.batch import IdGroup
from tts_train.families.token_lm.reinforce.judge import HeardTake, TakeJudge
from tts_train.families.token_lm.reinforce.takes import StepTakes, TakenGroup, in_place
from tts_train.families.token_lm.reinforce.voice import TextVoice
from tts_train.families.token_lm.speaking.drawing import DRAWN_IDS, PROMPT_IDS
from tts_train.nn.policy import Scale, advantages
from tts_train.sampling.drawing import held_against, seed_of
from tts_train.scoring.metrics.catalogue import choose, own_metrics
from tts_train.sound import Sound
from tts_train.training.listen.callback import untouched

if TYPE_CHECKING:
    from tts_train.contract.metric import Metric
    from tts_train.families.token_lm.reinforce.data import PromptData, Turn
    from tts_train.families.token_lm.reinforce.module import ReinforceModule

TRIED = 8
"""Texts for training, and for validation, of which it is asked whether a metric can measure them."""
_SILENCE = Sound(np.zeros(16_000, np.float32), 16_000)
_log = logging.getLogger(__name__)
Table = Mapping[str, Sequence["float | None"]]


class Drawing:
    """Draws takes with a module's network as it stands.

    Args:
        module: The module in training, with what it rewards.
        data: The texts.
        offered: What can measure; None takes the core's own metrics.

    Raises:
        ConfigError: if what is rewarded or watched cannot be measured.
    """

    def __init__(
        self,
        module: ReinforceModule,
        data: PromptData,
        offered: Callable[[Mapping[str, str]], Sequence[Metric]] | None,
    ) -> None:
        self._module, self.data = module, data
        metrics, missing = choose((offered or own_metrics)(module.metric_weights), ())
        # What no text has anything for is measured as little as what is not installed.
        useless = self._useless(metrics)
        able = [metric for metric in metrics if metric.name not in useless]
        # As options are called here, and not in `sample`.
        why = {name: _here(told) for name, told in {**missing, **useless}.items()}
        self.judge = TakeJudge(able, why, module.reward, module.watch)
        told = ", ".join(f"{name}:{weight:g}" for name, weight, _ in self.judge.wishes)
        _log.info("Rewarded: %s.%s", told, f" Watched: {module.watch}." if module.watch else "")

    def go_on_with(self, wishes: Sequence[Sequence[Any]]) -> None:
        """Reward what a run was begun with, also where the same words would mean other figures by now.

        Raises:
            ConfigError: if that cannot be measured.
        """
        if list(map(list, wishes)) == self.judge.wishes:
            return
        told = ", ".join(":".join(f"{part}" for part in wish if part is not None) for wish in wishes)
        self.judge = replace(self.judge, reward=told)
        _log.info("Rewarded, as the run was begun: %s.", told)

    @cached_property
    def voice(self) -> TextVoice:
        """What says the texts."""
        assert self._module.network is not None
        return TextVoice(self._module.token_lm, self._module.network, self.data, self._module.device)

    @property
    def longest(self) -> int:
        """Log-probabilities of the longest take that there may be."""
        return int(self.data.most_seconds * self.voice.tokens_per_second)

    def check_prompts(self) -> None:
        """Make the prompts of all texts.

        Raises:
            DataError: if one cannot be said.
        """
        for row in self.data.rows:
            self.voice.prompt(row)

    def step(self, turn: Turn, scale: Scale) -> tuple[StepTakes, list[HeardTake], Table]:
        """Return the takes of a step's texts, with what was measured of them."""
        # By counter: a step that was killed is drawn again alike, whatever was drawn before it.
        seed = (self.data.seed << 32) + turn["step"]
        began = time.monotonic()
        drawn = self._drawn(turn["texts"], self.data.group, seed)
        sampled = time.monotonic()
        heard = self._heard(turn["texts"], drawn)
        table = self.judge.table(heard)
        rewards = in_place(self.judge.rewards(heard, table)).view(len(turn["texts"]), -1)
        gains = advantages(rewards, scale)
        counts = (~torch.isnan(rewards)).float()
        groups = [
            TakenGroup(_group(heard[first : first + self.data.group]), gains[place], counts[place])
            for place, first in enumerate(range(0, len(heard), self.data.group))
        ]
        seconds = (sampled - began, time.monotonic() - sampled)
        return StepTakes(turn["step"], groups, {"judged": float(counts.mean())}, seconds), heard, table

    def held_out(self, texts: Sequence[int]) -> list[HeardTake]:
        """Return a take of each held-out text, with the same seeds every time, and what is measured of it."""
        # Seeds that no step has: the number of a step is added to a multiple of 2^32.
        return self._heard(texts, self._drawn(texts, 1, (self.data.seed << 32) - 1), watching=True)

    def _useless(self, metrics: Sequence[Metric]) -> dict[str, str]:
        """Return the metrics that can measure none of some texts, each with the reason."""
        rows = [self.data.rows[number] for number in (*self.data.train_rows[:TRIED], *self.data.held_rows[:TRIED])]
        found: dict[str, list[str | None]] = {metric.name: [] for metric in metrics}
        for sentence in map(self.data.known.sentence, rows):
            take = held_against(sentence, _SILENCE)
            for metric in metrics:
                found[metric.name].append(metric.lacks(take))
        return {name: str(whys[0]) for name, whys in found.items() if all(why is not None for why in whys)}

    def _drawn(self, texts: Sequence[int], takes: int, seed: int) -> list[Any]:
        rows = [self.data.rows[text] for text in texts for _ in range(takes)]
        seeds = [seed_of(row.id, number % takes, seed=seed % 2**64) for number, row in enumerate(rows)]
        with untouched(self._module), self._module.training_precision():
            drawn = self.voice.draw(rows, seeds=seeds)
        # Half copies of weights that were made without gradients would be used again by the pass that is trained.
        torch.clear_autocast_cache()
        return drawn

    def _heard(self, texts: Sequence[int], drawn: Sequence[Any], *, watching: bool = False) -> list[HeardTake]:
        heard = []
        with untouched(self._module):
            for row, sentence, take in self._beside(texts, drawn):
                heard.append(self.judge.hear(row, take, sentence, watching=watching))
        return heard

    def _beside(self, texts: Sequence[int], drawn: Sequence[Any]) -> Iterator[tuple[Any, Any, Any]]:
        """Yield each take with its text, whose recording is read once for all of them."""
        takes = len(drawn) // len(texts)
        for place, text in enumerate(texts):
            row = self.data.rows[text]
            sentence = self.data.known.sentence(row)
            for take in drawn[place * takes : (place + 1) * takes]:
                yield row, sentence, take


def _here(told: str) -> str:
    return told.replace("--weights.", "--model.weights.").replace("--language", "--data.language")


def _group(heard: Sequence[HeardTake]) -> IdGroup:
    drawn = [each.drawn for each in heard]
    prompt = drawn[0].columns[PROMPT_IDS].astype("int64")
    answers = tuple(each.columns[DRAWN_IDS].astype("int64") for each in drawn)
    seconds = sum(each.sound.seconds for each in drawn if each.sound is not None)
    return IdGroup(heard[0].row.id, prompt, answers, seconds)
