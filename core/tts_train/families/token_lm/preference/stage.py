"""The stage that learns from pairs, made from a backend's own stage: a table, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tts_train.contract.backend import Curve, Reference, Stage

NAME = "dpo"
SUMMARY = "Preferences: takes that say their text against takes that skip, repeat or never stop."
TITLES: Mapping[str, Curve] = {
    "preference": Curve(title="Loss of the preference alone"),
    "sft": Curve(title="Loss of the better takes, a token", unit=" nats"),
    "margin": Curve(title="Reward of the better take less that of the worse"),
    "pair_accuracy": Curve(title="Share of pairs with the larger reward for the better take"),
    "chosen_reward": Curve(title="Reward of the better takes"),
    "rejected_reward": Curve(title="Reward of the worse takes"),
    "kl": Curve(title="Divergence from the start, a token", unit=" nats"),
}
# A preference changes what is there: a rate of plain training would leave the start behind within some steps.
_DEFAULTS: Mapping[str, Any] = {"model.optimizer.lr": 5e-6, "listen.at_start": True}

_TINY: Mapping[str, Any] = {"model.init_from": "tiny", "model.method": "lora", "model.schedule.name": "constant"}


def preference_stage(plain: Stage, *, model: Reference[Any], data: Reference[Any], name: str = NAME) -> Stage:
    """Return the stage in which a model of a backend learns from pairs of its takes.

    What is prepared, spoken and exported, and how, is as in the stage that the model comes from.

    Args:
        plain: The stage that trains the model on recordings.
        model: A ``PreferenceModule`` of the backend.
        data: A ``PairData`` of the backend.
        name: Of the stage.
    """
    # Options of the data are those of pairs here; of the model all stay.
    kept = tuple(key for key in plain.identity if key.startswith("model."))
    return replace(
        plain,
        name=name,
        summary=SUMMARY,
        model=model,
        data=data,
        defaults={**plain.defaults, **_DEFAULTS},
        identity=(*kept, "model.loss", "data.path", "data.margin", "data.per_text"),
        # It would begin with a trained model and its takes.
        demo=None,
        tiny={**_TINY, **plain.tiny, "data.max_tokens": 1024},
        titles=TITLES,
    )
