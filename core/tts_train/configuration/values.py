"""What a setting takes, in words: values, bounds that no number may cross, and classes that cannot be used."""

from __future__ import annotations

import difflib
import math
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tts_train.errors import ConfigError

LARGEST_SEED = 2**32 - 1
"""NumPy's largest; Python's and torch's generators take it too."""
_LARGEST = 2**63 - 1
# Beyond any use: 1e308 seconds and 10^12 nodes ended in tracebacks behind the parser.
_LARGEST_FLOAT = 1e18
_BOUNDS = {
    "seed": (0, LARGEST_SEED),
    "seed_everything": (0, LARGEST_SEED),
    "num_workers": (0, 1024),  # processes, of which more than a machine can hold would be started
    "workers": (0, 1024),
    "num_nodes": (1, 65_535),
    "log_every_n_steps": (0, _LARGEST),
    "num_sanity_val_steps": (-1, _LARGEST),
    # Lightning divides by both.
    "accumulate_grad_batches": (1, 1_000_000),
    "val_check_interval": (1, _LARGEST),
}
_WORDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    type(None): "null",
}
_LONGEST = 60


def in_words(allowed: Any) -> str:  # noqa: ANN401 - a type, or None where it is not known
    """Return what a type allows, such as ``a number, auto or null``."""
    parts = list(dict.fromkeys(_parts(allowed)))
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"


def admits_null(allowed: Any) -> bool:  # noqa: ANN401 - a type
    """Tell whether a type says that null may be given; the parser takes it for every type."""
    if typing.get_origin(allowed) in (typing.Union, types.UnionType):
        return any(admits_null(part) for part in typing.get_args(allowed))
    return allowed in (None, type(None), Any, object)


def _parts(allowed: Any) -> Iterator[str]:  # noqa: ANN401 - as above
    origin, inner = typing.get_origin(allowed), typing.get_args(allowed)
    if origin in (typing.Union, types.UnionType):
        for part in inner:
            yield from _parts(part)
    elif origin is typing.Literal:
        yield from map(str, inner)
    elif origin in (list, tuple):
        item = in_words(inner[0]) if inner else "anything"
        count = f"{len(inner)} times " if origin is tuple and ... not in inner else ""
        yield f"a list ([a, b]) of {count}{item}"
    elif origin is dict:
        yield "a section of names and values"
    else:
        yield _WORDS.get(allowed, getattr(allowed, "__name__", None) or str(allowed))


def refused(option: str, given: object, allowed: str, *, place: str = "") -> ConfigError:
    """Return the error for a value that a setting does not take.

    Args:
        option: its name with dashes, or its key where ``place`` says in which file.
        given: what was given.
        allowed: what it takes, in words.
        place: file and line.
    """
    shown = repr(given) if isinstance(given, str) and (not given or given != given.strip()) else str(given)
    shown = {"None": "null", "True": "true", "False": "false"}.get(shown, shown)
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
    return ConfigError(f"{f'{place}: ' if place else ''}{option} takes {allowed}, and {shown} was given.")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean …?`` for a name that is not known, or nothing where none is near."""
    known = list(known)
    last = name.lstrip("-").rpartition(".")[2]
    there = [one for one in known if one != name and one.lstrip("-").rpartition(".")[2] == last]
    # A name in another section comes first: --model.lr for --model.optimizer.lr.
    close = difflib.get_close_matches(name, there, n=2, cutoff=0) or difflib.get_close_matches(name, known, 2, 0.75)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def check_numbers(settings: Mapping[str, Any], *, prefix: str = "--") -> None:
    """Refuse what nothing can take: numbers that are not finite or too large, seeds out of range, texts with NUL.

    Raises:
        ConfigError: naming the setting.
    """
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            check_numbers(value, prefix=f"{name}.")
        elif isinstance(value, (list, tuple)):
            for item in value:
                check_numbers({key: item}, prefix=prefix)
        elif isinstance(value, (str, Path)) and "\0" in str(value):
            raise refused(name, repr(str(value)), "text without the character NUL")
        elif isinstance(value, float) and not (math.isfinite(value) and abs(value) <= _LARGEST_FLOAT):
            raise refused(name, value, f"a finite number up to {_LARGEST_FLOAT:g}")
        elif isinstance(value, float) and key == "val_check_interval" and value <= 0:
            raise refused(name, value, "a share of an epoch above 0")
        elif key == "gradient_clip_val" and isinstance(value, (int, float)) and value < 0:
            raise refused(name, value, "a number from 0, which does not clip, or null")
        elif isinstance(value, int) and not isinstance(value, bool):
            least, most = _BOUNDS.get(key, (-_LARGEST, _LARGEST))
            if not least <= value <= most:
                below = f"from {least} to {most}" if key in _BOUNDS else f"up to {most}"
                raise refused(name, value, f"a whole number {below}")


_CANNOT = re.compile(r"Problem with given class_path '(?P<path>[^']+)':\s*(?P<why>[^\n]+)")
_NO_PATH = re.compile(r"Expected a dot import path string: (?P<name>\S+)")
_NO_SUBCLASS = re.compile(
    r"does not correspond to a subclass of (?P<base>\w+).*Given value: (?P<path>[\w.]+)$", re.DOTALL
)
_NO_SETTING = re.compile(r"Option '(?P<name>[^']+)' is not accepted")
_NEEDS = re.compile(r"the following arguments are required: (?P<names>[^.\n]+)")
_CLASS = re.compile(r"class_path'?[=:] ?'(?P<path>[\w.]+)'")
# Classes that recipes and runs of earlier versions may name, and what to do without them.
_REMOVED = {
    "tts_train.loggers.TrackioLogger": "was removed, as trackio reads TensorBoard's files. Leave out --trainer.logger"
    ' and its settings: TensorBoard is the default. Then type: pip install trackio tbparse; python -c "import trackio;'
    " trackio.import_tf_events('RUN/logs', 'PROJECT')\"",
}
_BEHIND = " Give a class by its module and name, as in lightning.pytorch.callbacks.EarlyStopping."


def about_class(why: str) -> str | None:
    """Return what is wrong with a class or its settings; None where the parser's reasons are about something else.

    Args:
        why: The reasons of jsonargparse for refusing a value whose type is a class.
    """
    for path, advice in _REMOVED.items():
        if path in why:
            return f"{path} {advice}"
    found = _CANNOT.search(why)
    if found is not None:
        module, _, name = found["path"].rpartition(".")
        if module not in sys.modules:
            return f"{found['path']} cannot be imported: {found['why'].strip()}. Install its package, or mend the name."
        return f"the module {module} has no {name}.{nearest(name, _classes(module))}"
    found = _NO_PATH.search(why)
    if found is not None:
        near = nearest(found["name"], _classes("lightning.pytorch.callbacks"))
        return f"there is no class {found['name']}.{near or _BEHIND}"
    found = _NO_SUBCLASS.search(why)
    if found is not None:
        return f"{found['path']} is no {found['base']}.{_BEHIND}"
    classes = [each["path"].rpartition(".")[2] for each in _CLASS.finditer(why)]
    which = classes[0] if len(classes) == 1 else "the class"
    found = _NO_SETTING.search(why)
    if found is not None:
        given_first = "" if classes else " Name the class before its settings: --trainer.callbacks+=EarlyStopping."
        return f"{which} has no setting {found['name']}.{given_first}"
    found = _NEEDS.search(why)
    return f"{which} needs the setting {found['names'].strip()}." if found is not None else None


def _classes(module: str) -> list[str]:
    return [name for name in dir(sys.modules.get(module)) if name[0].isupper()]
