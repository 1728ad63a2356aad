"""docs/architecture.md as data: its tree, and its table of who may import whom, with what breaks a row."""

from __future__ import annotations

import ast
import fnmatch
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from tests.house import MODULES, ROOT, measure_house

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
LIBRARIES = {"torch": ("torch", "torchaudio"), "Lightning": ("lightning",), "transformers": ("transformers", "peft")}
"""What a library is called in the table, and the packages that are it or load it."""


def _examples() -> list[measure_house.Module]:
    return [
        measure_house.Module(folder.name, path.relative_to(folder), path.read_text(encoding="utf-8"))
        for folder in sorted(ROOT.glob("examples/*/tts_train_*"))
        for path in sorted(folder.rglob("*.py"))
    ]


def _name(module: measure_house.Module) -> str:
    return f"{module.package}/{module.path.with_suffix('').as_posix()}"


SOURCE = {_name(module): module for module in (*MODULES, *_examples())}
"""Each module of the core, the plugins and the examples, by its path without ``.py``."""


def resolve(dotted: str, name: str = "") -> str | None:
    """Return the path of the module that an import names, or None for one of another distribution."""
    path = dotted.replace(".", "/")
    for each in (f"{path}/{name}", f"{path}/{name}/__init__", path, f"{path}/__init__"):
        if each in SOURCE:
            return each
    return path if path.split("/")[0].startswith("tts_train") else None


@cache
def imports(path: str) -> frozenset[str]:
    """Return the modules of this repository that a module imports, anywhere in it."""
    return frozenset(found for each in SOURCE[path].imports() if (found := resolve(*each)))


def _at_import(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for each import that is run when a module is imported."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((each.name, "") for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, each.name) for each in node.names)
        elif isinstance(node, ast.If):
            for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            yield from _at_import(node.orelse if for_types else [*node.body, *node.orelse])
        elif isinstance(node, (ast.ClassDef, ast.Try, ast.With)):
            yield from _at_import(node.body)


@cache
def _loaded(path: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the modules here, and the packages of others, that are imported with a module."""
    found = set(_at_import(SOURCE[path].tree.body))
    here = {each for dotted, name in found for each in (*_packages(dotted), resolve(dotted, name))}
    return frozenset(here & SOURCE.keys()), frozenset(dotted.split(".")[0] for dotted, _ in found)


def loads(path: str, library: str) -> list[str]:
    """Return by which modules a library is loaded when this one is imported; empty where it is not."""
    ways, seen = [[path]], {path}
    for way in ways:  # grows while it is read: the shortest way is found first
        here, others = _loaded(way[-1])
        if others & set(LIBRARIES[library]):
            return [*way, library]
        ways += [[*way, below] for below in sorted(here - seen)]
        seen |= here
    return []


def _packages(dotted: str) -> Iterator[str]:
    """Yield the packages that Python imports before it imports a module in them."""
    for parents in itertools.accumulate(dotted.split("."), lambda one, other: f"{one}/{other}"):
        yield f"{parents}/__init__"


def missing(file: Path) -> list[str]:
    """Return what a program beside the packages imports of them, or names as a dotted string, and is not there."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    named = [(node.module, each.name) for node in imported for each in node.names]
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    named += [(text, "") for text in strings if re.fullmatch(r"tts_train\w*(\.\w+){2,}", text)]
    return [
        f"{file.relative_to(ROOT)}: {dotted} {name}".strip()
        for dotted, name in named
        if dotted.startswith("tts_train") and not is_there(dotted, name)
    ]


def is_there(dotted: str, name: str) -> bool:
    """Tell whether a module is there, and the name in it (or the module of that name, where it is a package)."""
    path = dotted.replace(".", "/")
    if any(each in SOURCE for each in (f"{path}/{name}", f"{path}/{name}/__init__")):
        return True
    return any(re.search(rf"\b{name}\b", SOURCE[each].text) for each in (path, f"{path}/__init__") if each in SOURCE)


@cache
def within(path: str, pattern: str) -> str | None:
    """Return the folder or file of a pattern that a module lies in, such as ``tts_train_csm`` for ``tts_train_*``."""
    depth = pattern.count("/") + 1
    start = "/".join(path.split("/")[:depth])
    return start if fnmatch.fnmatchcase(start, pattern) else None


def _paths(cell: str) -> tuple[str, ...]:
    """Return the paths between backticks, with ``{a,b}`` written out."""
    found: list[str] = []
    for word in re.findall(r"`([^`]+)`", cell):
        before, _, rest = word.partition("{")
        inner, _, after = rest.partition("}")
        found += [f"{before}{each}{after}" for each in inner.split(",")] if rest else [word]
    return tuple(found)


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    about: str
    allowed: str
    unloaded: str

    def __str__(self) -> str:
        return self.about.replace("`", "")

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Paths and patterns that the row is about."""
        return _paths(self.about.split(" outside ")[0])

    @cached_property
    def left_out(self) -> tuple[str, ...]:
        """Paths below the subject that the row is not about."""
        return tuple(f"{self.subjects[0]}/{each}" for each in _paths(self.about.partition(" outside ")[2]))

    def modules(self) -> Iterator[tuple[str, str]]:
        """Yield each module that the row is about, with the folder or file that it may always import from."""
        for path, pattern in itertools.product(SOURCE, self.subjects):
            own = within(path, pattern)
            if own and not any(within(path, each) for each in self.left_out):
                yield path, own

    def faults(self) -> Iterator[str]:
        """Yield what breaks the row, a sentence each."""
        for pattern in (*self.subjects, *self.left_out):
            if not any(within(path, pattern) for path in SOURCE):
                yield f"{pattern} is no module any more: mend the row in docs/architecture.md"
        for path, own in self.modules():
            for target in sorted(imports(path)):
                if not within(target, own) and not self.allows(own, target):
                    yield f"{path} imports {target}"
            for library in self.unloaded.split(", ") if self.unloaded != "–" else ():
                if way := loads(path, library):
                    yield f"importing {path} loads {library}: {' -> '.join(way)}"

    def allows(self, own: str, target: str) -> bool:
        """Tell whether the modules of one subject may import a module.

        Raises:
            ValueError: The cell is in none of the table's forms.
        """
        if self.allowed in {"–", "nothing"}:
            return self.allowed == "–"
        if self.allowed == "those before them":
            return not any(within(target, each) for each in self.subjects[self.subjects.index(own) :])
        if self.allowed.startswith("not "):
            return not any(within(target, each) for each in _paths(self.allowed))
        if not _paths(self.allowed):
            raise ValueError(f"docs/architecture.md: {self.allowed!r} is none of –, nothing, those before them, paths")
        return any(within(target, each) for each in _paths(self.allowed))


def read_rows() -> list[Row]:
    """Return the rows of the table."""
    table = PAGE.split("## Who may import whom")[1].split("\n\n")[1]
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in table.splitlines()[2:]]


def read_tree() -> dict[Path, str]:
    """Return what each line of the tree says about each folder or file that it names, by path in the repository."""
    found: dict[Path, str] = {}
    root, entries = Path(), []
    for line in PAGE.split("```")[1].splitlines():
        depth, words = len(line) - len(line.lstrip()), re.split(r"\s{2,}", line.strip())
        if depth <= 2 and words[0]:
            root = root if depth else Path(words[0])
            names = list(itertools.takewhile(lambda word: re.fullmatch(r"[\w/*.-]+(/|\.py)", word), words))
            entries = [root / name if depth else root for name in names]
            words = words[len(names) :]
        for entry in entries:
            found[entry] = " ".join([*found.get(entry, "").split(), *words])
    return found
