"""What is wrong with a reference, ``${model.lr}`` or ``${oc.env:NAME}``, in words."""

from __future__ import annotations

import re

from omegaconf import OmegaConf
from omegaconf.errors import (
    GrammarParseError,
    InterpolationKeyError,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from tts_train.errors import ConfigError

_VARIABLE = re.compile(r"Environment variable '([^']*)' not found")
_SETTING = re.compile(r"\$\{\s*([\w.]+)\s*\}")
_KEY = re.compile(r"Interpolation key '([^']*)' not found")


def check_reference(option: str, setting: str, text: str) -> None:
    """Refuse a reference that no other setting can mend: unreadable, to itself, or to a variable that is not set.

    Args:
        option: full name of the setting that refers, with or without dashes.
        setting: what messages call it.
        text: its value.

    Raises:
        ConfigError: naming ``setting``.
    """
    name = option.removeprefix("--")
    for key in _SETTING.findall(text):
        if f"{name}.".startswith(f"{key}."):
            raise ConfigError(f"{setting} refers to itself by ${{{key}}}. Give it a value.")
    try:
        # Alone it can resolve variables and itself only; settings it refers to are missing here.
        OmegaConf.to_container(OmegaConf.create({"it": text}), resolve=True)
    except InterpolationKeyError:
        return  # it refers to a setting, which the parser knows
    except OmegaConfBaseException as error:
        raise unresolved(error, setting) from error


def unresolved(error: OmegaConfBaseException, setting: str | None = None) -> ConfigError:
    """Return the error that says which setting refers to what, and what to write instead."""
    setting = setting or (f"--{error.full_key}" if error.full_key else "A setting")
    text = str(error.msg or error).splitlines()[0]
    variable, key = _VARIABLE.search(text), _KEY.search(text)
    if variable is not None:
        return ConfigError(
            f"{setting} refers to the environment variable {variable[1]}, which is not set. Set it (export "
            f"{variable[1]}=...), or give a value for the case: ${{oc.env:{variable[1]},VALUE}}."
        )
    if isinstance(error, InterpolationKeyError) and key is not None:
        return ConfigError(
            f"{setting} refers to ${{{key[1].lstrip('.')}}}, and there is no such setting. Write its whole name, such "
            "as ${trainer.max_steps}; --print_config lists all."
        )
    if "Recursive interpolation" in text:
        return ConfigError(f"{setting} refers to itself, if by way of other settings. Give one of them a value.")
    if isinstance(error, UnsupportedInterpolationType):
        return ConfigError(f"{setting}: {text}. Known are ${{section.name}} and ${{oc.env:NAME}}.")
    if isinstance(error, GrammarParseError):
        return ConfigError(
            f"{setting} holds a reference that cannot be read ({text}). Write ${{section.name}} or ${{oc.env:NAME}}; "
            "for a plain dollar sign and brace: \\${."
        )
    return ConfigError(f"{setting} holds a reference that cannot be resolved: {text}.")
