"""What ends a run whose network has learnt to please the reward and not the listener."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tts_train.errors import ConfigError
from tts_train.sampling.rewards import Term
from tts_train.scoring.scores import estimate

STEPS = 4
"""Steps whose mean is judged: a single one is a few dozen takes."""


@dataclass(frozen=True)
class GuardOptions:
    """Bounds beyond which a run ends by itself; each is judged by the mean of four steps."""

    kl: float = 0.5
    """Largest divergence from the start, in nats a token; 0 for any."""
    length: float = 0.6
    """Least seconds of speech for a letter, as a share of those at the start; 0 for any."""
    silence: float = 1.0
    """Most seconds of silence in a take beyond the first second of each pause, in the mean; 0 for any."""

    def __post_init__(self) -> None:
        if min(self.kl, self.length, self.silence) < 0 or self.length >= 1:
            raise ConfigError(
                "--model.guards.kl and silence must be 0 or more and length from 0 to below 1; "
                f"{self.kl:g}, {self.silence:g} and {self.length:g} were given."
            )


@dataclass
class Guards:
    """Judges step after step.

    Args:
        options: The bounds.
    """

    options: GuardOptions
    recent: dict[str, list[float]] = field(default_factory=dict)
    """The last values of each figure."""
    watched: dict[str, list[float]] = field(default_factory=dict)
    """Mean, lower and upper end of the interval of what is watched before the first step, by figure."""

    def state(self) -> dict[str, Any]:
        """Return what a run goes on with, in plain types."""
        return {"recent": {name: list(values) for name, values in self.recent.items()}, "watched": dict(self.watched)}

    def load(self, state: Mapping[str, Any], *, stopped: bool = False) -> None:
        """Take up :meth:`state`.

        Args:
            state: What it was.
            stopped: Whether the run had ended by itself: it goes on with other options, and is judged by new steps.
        """
        self.recent = {} if stopped else {name: list(values) for name, values in state["recent"].items()}
        self.watched = dict(state["watched"])

    def judge(self, step: int, figures: Mapping[str, float | None]) -> str | None:
        """Return why the run ends after a step; None if it goes on.

        Args:
            step: The optimiser step.
            figures: ``kl``, ``length`` and ``silence`` of this step, as far as they are there.
        """
        for name, value in figures.items():
            if value is not None:
                self.recent[name] = [*self.recent.get(name, ()), value][-STEPS:]
        bounds = {"kl": self.options.kl, "length": self.options.length, "silence": self.options.silence}
        for name, bound in bounds.items():
            values = self.recent.get(name, ())
            # Not before there are as many: the first steps of a run are a few takes.
            if not bound or len(values) < STEPS:
                continue
            found = math.fsum(values) / STEPS
            if found < bound if name == "length" else found > bound:
                return _SENTENCES[name].format(step=step, found=found, bound=bound, steps=STEPS)
        return None

    def require_start(self, term: Term | None) -> None:
        """Refuse to watch what nothing is known of from before training.

        Raises:
            ConfigError: saying what may be the reason.
        """
        name = "" if term is None else term.figure.name
        if name and name not in self.watched:
            begun = ", ".join(self.watched)
            raise ConfigError(
                f"--model.watch compares {name} with what it was before training, and of that nothing is known: "
                + (
                    f"this run was begun with {begun}. Give that, or begin a new run from this one: --model.init_from."
                    if begun
                    else "it takes a validation before the first step (--trainer.num_sanity_val_steps -1) in which two "
                    "held-out texts or more have the figure, and a run that was begun with it. Watch another figure, "
                    "or leave --model.watch out."
                )
            )

    def watch(self, step: int, term: Term, values: Sequence[float], *, seed: int) -> str | None:
        """Return why the run ends after a validation; None if it goes on, or this is the first one.

        Args:
            step: The optimiser step.
            term: What is watched.
            values: Its values over the held-out texts.
            seed: Of the interval.
        """
        found = estimate(list(values), seed=seed)
        if found is None:
            return None
        better, name = term.figure.better, term.figure.name
        if name not in self.watched:
            # The same texts and seeds every time, so that a mean outside is no matter of which texts were said.
            if found.low is not None and found.high is not None:
                self.watched[name] = [found.mean, found.low, found.high]
            return None
        first, low, high = self.watched[name]
        if not (found.mean < low if better == "higher" else found.mean > high if better == "lower" else
                abs(found.mean - 1) > max(abs(low - 1), abs(high - 1))):  # fmt: skip
            return None
        return (
            f"Stopped at step {step}: {name} of held-out texts, which is not rewarded, has a mean of {found.mean:.3g}, "
            f"and was {first:.3g} [{low:.3g}, {high:.3g}] before training: what is rewarded is learnt at its cost "
            "(--model.watch)."
        )


_SENTENCES = {
    "kl": "Stopped at step {step}: the divergence from the start, {found:.3g} nats a token over {steps} steps, is "
    "above --model.guards.kl {bound:g}. A larger --model.kl or a smaller learning rate holds the network closer.",
    "length": "Stopped at step {step}: takes have {found:.2f} times the seconds of speech that a letter had at the "
    "start, over {steps} steps, which is below --model.guards.length {bound:g}: words are left out for the reward.",
    "silence": "Stopped at step {step}: takes have {found:.2f} s of silence beyond pauses, over {steps} steps, which "
    "is above --model.guards.silence {bound:g}.",
}
