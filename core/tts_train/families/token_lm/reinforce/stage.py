"""The stage that learns from its own takes, made from a backend's own stage: a table, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tts_train.contract.backend import Curve, Reference, Stage

NAME = "grpo"
SUMMARY = "Reinforcement: takes that the model draws itself, by what is measured of them."
TITLES: Mapping[str, Curve] = {
    "reward": Curve(title="Reward, in deviations of the start"),
    "kl": Curve(title="Divergence from the start, a token", unit=" nats"),
    "kl_weight": Curve(title="Weight of the divergence"),
    "clipped": Curve(title="Share of tokens beyond the bounds of the ratio"),
    "length": Curve(title="Seconds of speech for a letter, of those at the start"),
    "take_tokens": Curve(title="Tokens of a take"),
    "ended": Curve(title="Share of takes that the model ended"),
    "judged": Curve(title="Share of takes that could be judged"),
    "share_sampling": Curve(title="Share of the time that drawing takes"),
    "share_scoring": Curve(title="Share of the time that measuring takes"),
    "share_steps": Curve(title="Share of the time that steps take"),
}
_LINKS = {
    "model.group": "data.group",
    "model.passes": "data.passes",
    # A batch is a text, and an optimiser step has this many.
    "data.texts": "trainer.accumulate_grad_batches",
}
# A step of it teaches one thing, and much of it: rates of plain training would leave the start behind.
_DEFAULTS: Mapping[str, Any] = {"model.optimizer.lr": 2e-6, "trainer.log_every_n_steps": 1}
# Guards alone: they need no weights of a metric, and no recordings.
_TINY: Mapping[str, Any] = {
    "model.reward": "stop:1, repetition:1, silence:0.5",
    "model.group": 2,
    "data.texts": 1,
    "data.max_tokens": 256,
    "data.most_seconds": 1.0,
}


def reinforce_stage(plain: Stage, *, model: Reference[Any], data: Reference[Any], name: str = NAME) -> Stage:
    """Return the stage in which a model of a backend learns from takes that it draws.

    What is prepared, spoken and exported, and how, is as in the stage that the model comes from.

    Args:
        plain: The stage that trains the model on recordings.
        model: A ``ReinforceModule`` of the backend.
        data: A ``PromptData`` of the backend.
        name: Of the stage.
    """
    kept = tuple(key for key in plain.identity if key.startswith("model."))
    return replace(
        plain,
        name=name,
        summary=SUMMARY,
        model=model,
        data=data,
        links={**plain.links, **_LINKS},
        defaults={**plain.defaults, **_DEFAULTS},
        identity=(*kept, "model.group", "model.passes", "model.loss", "model.reward", "data.path", "data.texts"),
        demo=None,
        tiny={**plain.tiny, **_TINY},
        titles=TITLES,
    )
