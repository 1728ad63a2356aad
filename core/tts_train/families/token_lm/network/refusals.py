"""Options of the training module that contradict each other."""

from __future__ import annotations

from tts_train.errors import ConfigError


def refuse(method: str, share: float, *, checkpointing: bool, freeze_embedding: bool, float8: str) -> None:
    """Refuse options that make no sense together.

    Args:
        method: ``--model.method``.
        share: ``--model.checkpoint_share`` as a number.
        checkpointing: ``--model.gradient_checkpointing``.
        freeze_embedding: ``--model.freeze_embedding``.
        float8: ``--model.float8.recipe``.

    Raises:
        ConfigError: naming them and what is allowed.
    """
    if not 0 < share <= 1:
        raise ConfigError(
            "--model.checkpoint_share is auto or a share of the layers, above 0 and up to 1, with "
            f"--model.gradient_checkpointing true; {share} was given."
        )
    if share < 1 and not checkpointing:
        raise ConfigError(
            f"--model.checkpoint_share {share} recomputes layers, and --model.gradient_checkpointing is false. Give "
            "--model.gradient_checkpointing true, or leave --model.checkpoint_share out."
        )
    if freeze_embedding and method != "full":
        raise ConfigError(
            "--model.freeze_embedding is for --model.method full. Adapters leave the embedding as it is, unless "
            "--model.lora.train_embedding says otherwise."
        )
    if float8 != "off" and method != "full":
        raise ConfigError(
            f"--model.float8.recipe {float8} is for --model.method full, which multiplies with every "
            "weight three times. For less memory under adapters there are --model.method qlora and lora-8bit."
        )


def refuse_longer(longest: int | None, allowed: int, init_from: str) -> None:
    """Refuse data with an utterance that the base has no positions for.

    Args:
        longest: Tokens of the longest utterance; None where it is not known.
        allowed: Positions that the base was made for.
        init_from: ``--model.init_from``.

    Raises:
        ConfigError: saying how many there may be.
    """
    if longest is not None and longest > allowed:
        raise ConfigError(
            f"The longest utterance has {longest} tokens, and {init_from} was made for {allowed} positions: "
            f"give --data.max_tokens {allowed} or less."
        )
