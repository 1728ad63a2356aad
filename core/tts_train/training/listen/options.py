"""``--listen.*``: what is spoken while a run trains; offered by a stage with a voice, and refused by name elsewhere."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from tts_train.contract.module import speaks
from tts_train.corpus.language import says_nothing
from tts_train.errors import ConfigError

SECTION = "listen"


@dataclass(kw_only=True)
class ListenOptions:
    """What is spoken while a run trains, and how often."""

    sentences: int | list[str] = 2
    """How many utterances of the validation set are spoken, or texts to speak: ``["Good morning.", ...]``; 0 for
    none."""
    every_n_steps: int | None = None
    """Optimiser steps between; null speaks at each validation."""
    at_start: bool = False
    """Also speak before the first step, so that the report plays the model before and after training side by side."""
    max_share: float = 0.1
    """Most of the run's time that this may take, above 0. The first time is always heard; then what does not fit is
    skipped. 1 sets no limit."""
    metrics: list[str] | None = None
    """Scores of each sample, of those that `tts-train eval` knows; null takes what needs no more than is installed and
    is quick: clipping, silence, duration and dnsmos."""
    recordings: Path | None = None
    """Corpus that the data were prepared from, where they do not hold its sound: the recordings stand beside what is
    spoken."""

    def __post_init__(self) -> None:
        if isinstance(self.sentences, int) and self.sentences < 0:
            raise ConfigError(f"--listen.sentences must be 0 or more, or texts, and {self.sentences} was given.")
        if not isinstance(self.sentences, int) and any(map(says_nothing, self.sentences)):
            raise ConfigError("--listen.sentences has a text that says nothing. Leave it out, or write what to say.")
        if self.every_n_steps is not None and self.every_n_steps < 1:
            raise ConfigError(f"--listen.every_n_steps must be at least 1, and {self.every_n_steps} was given.")
        if not 0 < self.max_share <= 1:
            raise ConfigError(f"--listen.max_share must be above 0 and at most 1, and {self.max_share} was given.")


@contextmanager
def left_out_of_help(parser: LightningArgumentParser, section: str) -> Iterator[None]:
    """Let help leave out a section that the stage cannot answer; configurations still hold it, with its defaults."""
    hidden = [action for action in parser._actions if action.dest.partition(".")[0] == section]
    groups = [group for group in parser._action_groups if group._group_actions and {*group._group_actions} <= {*hidden}]
    helps, titles = [action.help for action in hidden], [(group.title, group.description) for group in groups]
    for action in hidden:
        action.help = SUPPRESS
    for group in groups:
        group.title = group.description = None
    try:
        yield
    finally:
        for action, help_ in zip(hidden, helps, strict=True):
            action.help = help_
        for group, (title, description) in zip(groups, titles, strict=True):
            group.title, group.description = title, description


def refuse_unheard(
    options: ListenOptions, module: type[LightningModule], *, stage: str, backend: str, heard: Sequence[str]
) -> None:
    """Refuse to be asked for samples of a stage that makes no sound while it trains.

    Args:
        options: What was given.
        module: What the stage trains.
        stage: Its name.
        backend: Its backend's name.
        heard: Names of the backend's stages that can be heard.

    Raises:
        ConfigError: naming the options, and the stages that answer them.
    """
    if speaks(module) or not options.sentences or options == ListenOptions():
        return
    unlike = [
        each.name for each in fields(options) if getattr(options, each.name) != getattr(ListenOptions(), each.name)
    ]
    those = f"Stages of {backend} that are heard: {', '.join(heard)}" if heard else f"No stage of {backend} is heard"
    raise ConfigError(
        f"{', '.join(f'--{SECTION}.{name}' for name in unlike)} cannot be answered: stage {stage!r} of backend "
        f"{backend!r} makes no sound while it trains. {those}. Leave the option out."
    )
