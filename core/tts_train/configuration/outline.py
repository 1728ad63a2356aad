"""What may stand in a recipe, read from the sources of the classes: their names and types, without importing torch.

It is what the parser of :mod:`tts_train.training.parser` will accept, as far as plain annotations say it. Where
they do not say it, everything is allowed here and the parser decides.
"""

from __future__ import annotations

import ast
import importlib.util
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

Kind: TypeAlias = "Group | Value | None"
"""A section, a value with a type, or None: nothing is known, and anything goes."""

# Classes and imports that are followed; a circle must have an end.
_DEEPEST = 6
_PLAIN: Mapping[str, Any] = {"int": int, "float": float, "str": str, "bool": bool, "Path": Path}
# Bases that bring no settings.
_EMPTY = ("ABC", "Protocol")
_CONTAINERS: Mapping[str, Any] = {"list": list, "tuple": tuple}


@dataclass(frozen=True)
class Value:
    """One setting."""

    type: Any


@dataclass(frozen=True)
class Group:
    """A section: what it takes, by name."""

    keys: Mapping[str, Kind] = field(default_factory=dict)
    nullable: bool = False
    """Whether ``null`` may stand in its place."""


def group_of(reference: type | str) -> Group | None:
    """Return what a class's constructor takes; None where the source does not say it plainly.

    Args:
        reference: a class, or ``package.module:Class``.
    """
    if not isinstance(reference, str):
        reference = f"{reference.__module__}:{reference.__qualname__}"
    module, _, name = reference.partition(":")
    return _group(module, name, 0)


def _group(module: str, name: str, depth: int) -> Group | None:
    found = _class(module, name)
    if found is None or depth > _DEEPEST:
        return None
    module, node = found
    if _is_dataclass(node):
        return _fields(module, node, depth)
    constructor = next((part for part in node.body if _is_function(part, "__init__")), None)
    if constructor is None:
        return _base(module, node, depth)
    taken = typing.cast(ast.FunctionDef, constructor).args
    arguments = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs][1:]
    keys = {one.arg: _kind(module, one.annotation, depth + 1) for one in arguments}
    if taken.vararg is None and taken.kwarg is None:
        return Group(keys)
    base = _base(module, node, depth)  # which takes what stands behind the stars
    return None if base is None else Group({**base.keys, **keys})


def _base(module: str, node: ast.ClassDef, depth: int) -> Group | None:
    keys: dict[str, Kind] = {}
    # The first of several bases takes the place of the others, and hands on to them what it does not take itself.
    for base in reversed(node.bases):
        group = _group(module, base.id, depth + 1) if isinstance(base, ast.Name) else None
        if group is None:
            return None
        keys |= group.keys
    return Group(keys) if node.bases else None


def _fields(module: str, node: ast.ClassDef, depth: int) -> Group | None:
    keys: dict[str, Kind] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in _EMPTY:
            continue
        found = _class(module, base.id) if isinstance(base, ast.Name) else None
        if found is None:
            return None
        if _is_dataclass(found[1]):  # other bases bring no fields
            inherited = _fields(*found, depth)
            if inherited is None:
                return None
            # In the order of dataclasses: bases first.
            keys.update(inherited.keys)
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            # field(init=…): whether that leaves it out of the constructor is not evaluated here; the parser decides.
            if isinstance(part.value, ast.Call) and any(word.arg == "init" for word in part.value.keywords):
                return None
            # dataclasses make no fields of class variables.
            if "ClassVar" not in ast.dump(part.annotation):
                keys[part.target.id] = _kind(module, part.annotation, depth + 1)
    return Group(keys)


def _kind(module: str, annotation: ast.expr | None, depth: int) -> Kind:
    parts = list(_alternatives(annotation)) if annotation is not None else []
    groups = [group for group in (_named_group(module, part, depth) for part in parts) if group is not None]
    others = [_type(module, part) for part in parts]
    # Of two sections it is not known which is meant.
    if len(groups) == 1 and [other for other in others if other is not _UNKNOWN] in ([], [type(None)]):
        return Group(groups[0].keys, nullable=len(parts) > 1)
    if not others or _UNKNOWN in others:
        return None
    return Value(typing.Union[tuple(others)] if len(others) > 1 else others[0])  # noqa: UP007 - made at run time


def _named_group(module: str, part: ast.expr, depth: int) -> Group | None:
    if not isinstance(part, ast.Name) or part.id in _PLAIN:
        return None
    found = _class(module, part.id)
    if found is None or not _is_dataclass(found[1]):
        return None
    return _group(module, part.id, depth)


_UNKNOWN = object()


def _type(module: str, node: ast.expr) -> Any:  # noqa: ANN401 - a type, or _UNKNOWN
    if isinstance(node, ast.Constant) and node.value is None:
        return type(None)
    if isinstance(node, ast.Name):
        if node.id in _PLAIN:
            return _PLAIN[node.id]
        found = _definition(module, node.id)
        return _whole(found[0], found[1]) if found is not None and isinstance(found[1], ast.expr) else _UNKNOWN
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal" and all(isinstance(one, ast.Constant) for one in inner):
            return typing.Literal[tuple(one.value for one in inner if isinstance(one, ast.Constant))]
        if node.value.id in _CONTAINERS:
            items = [... if _is_dots(one) else _whole(module, one) for one in inner]
            return _UNKNOWN if _UNKNOWN in items else _CONTAINERS[node.value.id][tuple(items)]
    return _UNKNOWN


def _whole(module: str, node: ast.expr) -> Any:  # noqa: ANN401 - a type, or _UNKNOWN
    parts = [_type(module, part) for part in _alternatives(node)]
    if _UNKNOWN in parts:
        return _UNKNOWN
    return typing.Union[tuple(parts)] if len(parts) > 1 else parts[0]  # noqa: UP007 - made at run time


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    """The members of ``A | B``, ``Union[A, B]`` and ``Optional[A]``."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in _UNIONS:
        for part in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            yield from _alternatives(part)
        if node.value.id == "Optional":
            yield ast.Constant(None)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _alternatives(ast.parse(node.value, mode="eval").body)
    else:
        yield node


def _is_dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


_UNIONS = ("Union", "Optional")


def _class(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    found = _definition(module, name)
    return (found[0], found[1]) if found is not None and isinstance(found[1], ast.ClassDef) else None


def _definition(module: str, name: str) -> tuple[str, ast.AST] | None:
    """Return where a name is defined, and its class or the expression that it stands for; imports are followed."""
    for _ in range(_DEEPEST):
        found = _names(module).get(name)
        if not isinstance(found, tuple):
            return None if found is None else (module, found)
        module, name = found
    return None


def _is_dataclass(node: ast.ClassDef) -> bool:
    called = [one.func if isinstance(one, ast.Call) else one for one in node.decorator_list]
    return any(isinstance(one, ast.Name) and one.id == "dataclass" for one in called)


def _is_function(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name == name


@cache
def _names(module: str) -> Mapping[str, ast.AST | tuple[str, str]]:
    """What a module's file defines at its top: classes, aliases of types, and names from other modules."""
    path = _source(module)
    if path is None:
        return {}
    names: dict[str, ast.AST | tuple[str, str]] = {}
    # As bytes: the parser of Python finds the encoding of a source by itself.
    for node in _statements(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {one.asname or one.name: (node.module, one.name) for one in node.names}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            names[node.target.id] = node.value
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            names[node.targets[0].id] = node.value
    return names


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements at the top of a module, and its imports for type checkers: names that load when they are used."""
    for node in tree.body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from node.body
        else:
            yield node


def _source(module: str) -> Path | None:
    """Return a module's file; only the outermost package is asked for, and nothing is imported."""
    top, *inner = module.split(".")
    try:
        # Of the top alone: for an inner module find_spec would import the packages around it.
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not inner:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        for path in (Path(folder, *inner).with_suffix(".py"), Path(folder, *inner, "__init__.py")):
            if path.is_file():
                return path
    return None
