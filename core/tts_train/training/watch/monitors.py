"""Figures that early stopping, the best checkpoint and plateau schedules watch: refused by name if there are none such.

Lightning looks for a watched figure when it is needed, and ends the run with a traceback if it is not there: for a
misspelt name, and for a right one of which no validation has come yet.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from tts_train.errors import ConfigError

_VALIDATION, _LATE = "val", "listen/"
_CHECKPOINT = "--checkpoint.monitor"

logger = logging.getLogger(__name__)


class Monitors(Callback):
    """Refuses a name that cannot be right before the first step, or behind the first batch, and warns of others later.

    What a validation logs is known from the one before training, or from the checkpoint.

    Args:
        checkpoint: the figure that the best checkpoint is chosen by, if any.
    """

    def __init__(self, checkpoint: str | None) -> None:
        self._checkpoint = checkpoint
        self._watched: dict[str, str] = {}
        self._known: set[str] = set()
        self._told: set[str] = set()
        self._batches = 0
        self._validated = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find out what is watched, and let a figure that is not there yet be no error."""
        self._watched = {_CHECKPOINT: self._checkpoint} if self._checkpoint else {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            name = getattr(callback, "monitor", None)
            if isinstance(name, str):
                self._watched[f"{type(callback).__name__} (--trainer.callbacks)"] = name
            if isinstance(callback, EarlyStopping):
                # Refused or warned of here instead, by name and before steps are lost.
                callback.strict = False
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.monitor:
                self._watched[f"{type(config.scheduler).__name__} (the learning rate)"] = config.monitor
                config.strict = False
        if not trainer.enable_validation:
            for who, name in self._besides_default():
                if name.startswith(_VALIDATION):
                    self._told.add(who)
                    logger.warning(
                        "%s watches %s, and this run has no validation (--trainer.limit_val_batches 0): it will never "
                        "act. Leave it out, or let the run validate.",
                        who,
                        name,
                    )

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what a validation should log and does not."""
        # A part of the validation set need not log every figure.
        if trainer.num_sanity_val_steps == float("inf"):
            self._refuse_unknown(trainer.callback_metrics, validated=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take what the checkpoint knew for what is logged."""
        if any(name.startswith(_VALIDATION) for name in trainer.callback_metrics):
            self._refuse_unknown(trainer.callback_metrics, validated=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Refuse, behind the first batch, what it shows to be misspelt."""
        self._batches += 1
        if self._batches == 1:
            self._refuse_unknown(trainer.callback_metrics, validated=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn, at the first validation, of what it does not log; what has been trained is not thrown away for it."""
        if trainer.sanity_checking or self._validated:
            return
        self._validated = True
        self._known |= set(trainer.callback_metrics)
        for who, name in self._besides_default():
            if name not in self._known and not name.startswith(_LATE):
                self._told.add(who)
                logger.warning("%s", self._unknown(who, name))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what never acted for want of its figure."""
        self._known |= set(trainer.callback_metrics)
        for who, name in self._besides_default():
            if name not in self._known and who not in self._told:
                logger.warning(
                    "%s never acted: %s was not logged before the run ended. Logged were: %s. A validation logs its "
                    "figures; --trainer.val_check_interval says when there is one.",
                    who,
                    name,
                    ", ".join(sorted(self._known)) or "none",
                )

    def _refuse_unknown(self, logged: Collection[str], *, validated: bool) -> None:
        """Refuse a watched name that is not logged.

        Args:
            logged: what is logged so far.
            validated: whether a whole validation is among it; else only names that resemble a logged one, or that are
                no ``group/figure``, cannot come later.
        """
        self._known |= set(logged)
        for who, name in self._watched.items():
            if not self._known or name in self._known or name.startswith(_LATE):
                continue
            near = _near(name, self._known)
            if (validated and (near or name.startswith(_VALIDATION))) or (not validated and (near or "/" not in name)):
                if name.startswith(_VALIDATION) and not _any(self._known, _VALIDATION):
                    continue
                raise ConfigError(self._unknown(who, name))

    def _unknown(self, who: str, name: str) -> str:
        near = _near(name, self._known)
        meant = f" Did you mean {near}?" if near else ""
        known = ", ".join(sorted(self._known))
        return f"{who} watches {name!r}, which is no figure of this run.{meant} Known so far: {known}."

    def _besides_default(self) -> Iterable[tuple[str, str]]:
        return ((who, name) for who, name in self._watched.items() if who != _CHECKPOINT)


def _any(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _near(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a misspelt one stands for."""
    plain = {_plain(each): each for each in known}
    # Spelling variants of one name are alike after _plain; the cutoff is for slips of a letter or two.
    found = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.8)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    return name.lower().replace("_", "/").replace("-", "/").replace("validation/", "val/")
