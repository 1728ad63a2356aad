"""Reads a recipe strictly: anything else is refused in a line that names the file, the line and what is expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tts_train.errors import ConfigError
from tts_train.recipes import meant

MOST_BYTES = 1 << 18
"""Larger files are no recipes: the longest that comes with tts-train has 2 KB."""
MOST_VALUES = 10_000
"""Values of a file, with what its aliases repeat counted each time."""
DEEPEST = 32
"""How deep sections and lists may lie in each other; those of our recipes lie 5 deep at most."""
_WANTED = (
    "A recipe is a text file with lines such as `backend: NAME` and indented settings; `tts-train init` writes one."
)


def read_config(path: Path) -> Mapping[str, Any]:
    """Read a recipe's keys; interpolations stay as they are written.

    Raises:
        ConfigError: if the file is missing, or is not YAML with settings under names, each given once.
    """
    node = _node(path)
    if not isinstance(node, yaml.MappingNode):
        given = "a list" if isinstance(node, yaml.SequenceNode) else "plain text"
        raise ConfigError(f"{_at(path, node)} holds {given} instead of settings. {_WANTED}")
    _check(path, node)
    try:
        content: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(_words(path, error)) from error
    return content


def line_of(path: Path, key: str) -> int | None:
    """Return the line, from 1, at which a file that :func:`read_config` accepts gives a dotted key; None if not."""
    node: yaml.Node | None = _node(path)
    line: int | None = None
    for name in key.split("."):
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((one, value) for one, value in node.value if one.value == name), None)
        if found is None:
            return None
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _node(path: Path) -> yaml.Node:
    text = _text(path)
    try:
        if _deeper(text, DEEPEST):
            raise ConfigError(f"{path} is nested too deeply. {_WANTED}")
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(_words(path, error)) from error
    if node is None:
        raise ConfigError(f"{path} is empty. {_WANTED}")
    return node


def _deeper(text: str, most: int) -> bool:
    """Tell whether lists and sections lie more than ``most`` deep; composing them would recurse that deep."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > most:
            return True
    return False


def _text(path: Path) -> str:
    if path.is_dir():
        raise ConfigError(
            f"{path} is a folder; -c takes a recipe, which is a file. To continue a run: --run_dir {path}"
        )
    if not path.is_file():
        there = [one.as_posix() for one in path.parent.glob("*.y*ml")]
        advice = meant(path.as_posix(), there) or " `tts-train init` writes one."
        raise ConfigError(f"There is no configuration file {path}.{advice}")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size / 1e6:.1f} MB. {_WANTED}")
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    # UTF-16 has zeros too, and is told of below as what it is.
    if b"\0" in content and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{path} is a binary file. {_WANTED}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8. Save the recipe as UTF-8.") from error


def _check(path: Path, root: yaml.MappingNode) -> None:
    """Refuse what YAML allows and a recipe does not: a key given twice, other keys than names, endless aliases."""
    count = 0
    for node, depth in _walk(root):
        count += 1
        if count > MOST_VALUES or depth > DEEPEST:
            raise ConfigError(f"{path} repeats itself by aliases, or is nested, beyond any recipe. {_WANTED}")
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (_STRING, _MERGE):
                raise ConfigError(f"{_at(path, key)}: a setting's name must be a word, not {_shown(key)}.")
            if key.value in seen:
                raise ConfigError(
                    f"{_at(path, key)}: {key.value} is given a second time (first in line {seen[key.value]}). Keep one."
                )
            seen[key.value] = key.start_mark.line + 1


_STRING, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"


def _walk(root: yaml.Node) -> Iterator[tuple[yaml.Node, int]]:
    # A list, not recursion: what is walked may be nested on purpose.
    waiting: list[tuple[yaml.Node, int]] = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        waiting += [(child, depth + 1) for child in children]


def _at(path: Path, node: yaml.Node) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def _shown(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "a list or section"


def _words(path: Path, error: Exception) -> str:
    """One line for YAML's page: where, what was met, and what a recipe's line looks like."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = f"{path}, line {mark.line + 1}" if mark else str(path)
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    if "'\\t'" in problem:
        problem = "a tab; indent with spaces"
    return f"{where}: not a recipe's YAML ({problem}). {_WANTED}"
