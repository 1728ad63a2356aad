"""Options of the training module that contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tts_train.errors import ConfigError

if TYPE_CHECKING:
    from tts_train_orpheus.module import OrpheusModule


def refuse(module: OrpheusModule, *, checkpointing: bool) -> None:
    """Refuse options that make no sense together.

    Raises:
        ConfigError: naming them and what is allowed.
    """
    share = module.checkpoint_share
    if not 0 < share <= 1 or (share < 1 and not checkpointing):
        raise ConfigError(
            "--model.checkpoint_share is auto or a share of the layers, above 0 and up to 1, for "
            f"--model.gradient_checkpointing true; {share} was given."
        )
    if module.freeze_embedding and module.method != "full":
        raise ConfigError(
            "--model.freeze_embedding is for --model.method full. Adapters leave the embedding as it is, unless "
            "--model.lora.train_embedding says otherwise."
        )
    if module.float8.recipe != "off" and module.method != "full":
        raise ConfigError(
            f"--model.float8.recipe {module.float8.recipe} is for --model.method full, which multiplies with every "
            "weight three times. For less memory under adapters there are --model.method qlora and lora-8bit."
        )
