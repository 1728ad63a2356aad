"""Options that only a stage with a voice can answer: offered there, and refused by name elsewhere."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from tts_train.contract.module import speaks
from tts_train.errors import ConfigError
from tts_train.training.listen.callback import ListenOptions

SECTION = "listen"


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
