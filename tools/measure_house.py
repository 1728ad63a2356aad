"""Print how the source is built, as a table: sizes, arrows between folders, names that plugins import, functions.

    python tools/measure_house.py              # the table
    python tools/measure_house.py --details    # and the names behind the numbers

Counted is the source of the core and the plugins; tests, tools, benchmarks and examples are not.
"""

from __future__ import annotations

import argparse
import ast
import io
import itertools
import re
import statistics
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = "tts_train"
GUIDE = ("docs/writing-a-backend.md", "docs/hooks.md")
FOLDER_SIZES = range(4, 13)
BRUTE_FORCE = 8
"""Most folders of a circle whose orders are all tried."""


@dataclass(frozen=True)
class Module:
    """One file of a package."""

    package: str
    path: Path
    """Below the package's folder."""
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @property
    def has_code(self) -> bool:
        """Whether there is more in it than a docstring, as in most files ``__init__``."""
        return any(not isinstance(node, ast.Expr) for node in self.tree.body)

    @property
    def room(self) -> str:
        """The folder of the package that the file is in, or the file itself beside them."""
        return self.path.parts[0] if len(self.path.parts) > 1 else self.path.stem

    def imports(self) -> Iterator[tuple[str, str]]:
        """Yield (module, name) for each name that is imported from a module, anywhere in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from ((node.module, each.name) for each in node.names)
            elif isinstance(node, ast.Import):
                yield from ((each.name, "") for each in node.names)

    def functions(self) -> Iterator[int]:
        """Yield the length of each function in lines."""
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield (node.end_lineno or node.lineno) - node.lineno + 1

    def comments(self) -> int:
        """Return the number of lines with a comment, also behind code; marks for tools count, as for the goal."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return sum(token.type == tokenize.COMMENT for token in tokens)

    def classes(self) -> Iterator[str]:
        """Yield the public classes of the module's own level."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name


@cache
def read_packages(root: Path) -> dict[str, list[Module]]:
    """Return the modules of the core and of each plugin, by package; the core is first."""
    folders = [root / "core" / CORE, *sorted(root.glob(f"plugins/*/{CORE}_*"))]
    return {
        folder.name: [
            Module(folder.name, path.relative_to(folder), path.read_text(encoding="utf-8"))
            for path in sorted(folder.rglob("*.py"))
        ]
        for folder in folders
    }


def arrows(modules: list[Module]) -> dict[tuple[str, str], list[str]]:
    """Return which room of a package imports which other, with the imports behind it."""
    rooms = {module.room for module in modules}
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in modules:
        for source, name in module.imports():
            parts = source.split(".")
            target = [*parts, name][1] if parts[0] == module.package else None
            if target in rooms and target != module.room:
                found[module.room, target].append(f"{module.path}: {source}:{name}")
    return dict(found)


def back_arrows(found: dict[tuple[str, str], list[str]]) -> list[tuple[str, str]]:
    """Return the fewest arrows that run back up when the rooms of each circle stand in their best order."""
    back: list[tuple[str, str]] = []
    for circle in circles(set(found)):
        inside = [arrow for arrow in found if set(arrow) <= set(circle)]
        orders = itertools.permutations(circle) if len(circle) <= BRUTE_FORCE else [_by_arrows(circle, inside)]
        against = (_against(order, inside) for order in orders)
        back += min(against, key=lambda arrows: (len(arrows), sum(len(found[arrow]) for arrow in arrows)))
    return sorted(back)


def _against(order: tuple[str, ...], inside: list[tuple[str, str]]) -> list[tuple[str, str]]:
    place = {room: index for index, room in enumerate(order)}
    return [(one, other) for one, other in inside if place[one] > place[other]]


def _by_arrows(circle: list[str], inside: list[tuple[str, str]]) -> tuple[str, ...]:
    """Order a large circle with the rooms first that import much and are imported little."""
    out, into = (Counter(arrow[side] for arrow in inside) for side in (0, 1))
    return tuple(sorted(circle, key=lambda room: (into[room] - out[room], room)))


def circles(graph: set[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of rooms that reach each other."""
    reach = {one: {other for start, other in graph if start == one} for one, _ in graph}
    for middle, one in itertools.product(list(reach), repeat=2):
        if middle in reach[one]:
            reach[one] |= reach[middle]
    together = {frozenset(other for other in reached if one in reach.get(other, ())) for one, reached in reach.items()}
    return [sorted(group) for group in together if len(group) > 1]


def imported_names(packages: dict[str, list[Module]]) -> set[tuple[str, str]]:
    """Return (module, name) for each public name of the core that a plugin imports."""
    return {
        (source, name)
        for package, modules in packages.items()
        for module in modules
        for source, name in module.imports()
        if package != CORE and source.split(".")[0] == CORE and not name.startswith("_")
    }


def documented(names: set[tuple[str, str]], root: Path) -> set[str]:
    """Return the imported names that the guide for writing a backend mentions."""
    guide = " ".join((root / path).read_text(encoding="utf-8") for path in GUIDE if (root / path).exists())
    words = set(re.findall(r"\w+", guide))
    return {name for _, name in names if name in words}


def package_of(source: str) -> str:
    """Return the package of the core that a module is in, such as ``tts_train.corpus``."""
    return ".".join(source.split(".")[:2])


def folder_sizes(packages: dict[str, list[Module]]) -> dict[str, int]:
    """Return the number of files of each folder, without its ``__init__``."""
    sizes: Counter[str] = Counter()
    for package, modules in packages.items():
        for module in modules:
            sizes[str(Path(package) / module.path.parent)] += module.path.name != "__init__.py"
    return {folder: size for folder, size in sorted(sizes.items()) if size}


def odd_folders(packages: dict[str, list[Module]]) -> dict[str, int]:
    """Return the folders with fewer or more files than a reader takes in, with their numbers of files."""
    return {folder: size for folder, size in folder_sizes(packages).items() if size not in FOLDER_SIZES}


def comment_share(modules: list[Module]) -> float:
    """Return how many of a hundred lines have a comment."""
    return 100 * sum(module.comments() for module in modules) / max(sum(module.lines for module in modules), 1)


def function_lengths(modules: list[Module], *quantiles: float) -> list[int]:
    """Return lengths of functions in lines: that which so large a share of them keeps within, for each share."""
    lengths = sorted(length for module in modules for length in module.functions())
    return [lengths[min(int(len(lengths) * share), len(lengths) - 1)] for share in quantiles if lengths]


def double_classes(modules: list[Module]) -> dict[str, list[str]]:
    """Return the public class names that stand in more than one module, with the modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        for name in module.classes():
            places[name].append(f"{module.package}/{module.path}")
    return {name: where for name, where in sorted(places.items()) if len(where) > 1}


def measure(root: Path) -> tuple[list[tuple[str, str, str]], list[tuple[str, list[str]]]]:
    """Return the table's rows (what, measured, goal) and the details (what, lines)."""
    packages = read_packages(root)
    modules = [module for each in packages.values() for module in each]
    lines = {package: sum(module.lines for module in each) for package, each in packages.items()}
    found = {package: arrows(each) for package, each in packages.items()}
    back = [(package, *arrow) for package, each in found.items() for arrow in back_arrows(each)]
    names = imported_names(packages)
    known = documented(names, root)
    by_package = Counter(package_of(source) for source, _ in names)
    doubles = double_classes(modules)
    sizes = folder_sizes(packages)
    odd = odd_folders(packages)
    each_package = ", ".join(f"{name} {_with_code(packages[name])} / {count:,}" for name, count in lines.items())
    rows = [
        (
            "modules / lines of core and plugins",
            f"{_with_code(modules)} / {sum(lines.values()):,}",
            "at most 280 / 34,000",
        ),
        ("of these", each_package, ""),
        ("lines of the Orpheus plugin", f"{lines.get(f'{CORE}_orpheus', 0):,}", "at most 2,000"),
        ("back-arrows between folders", str(len(back)), "0"),
        ("packages of the core that plugins import", str(len(by_package)), "at most 8"),
        (
            "public names that plugins import / documented",
            f"{len({name for _, name in names})} / {len(known)}",
            "at most 60 / all",
        ),
        ("function lines: median / p95 / longest", _spread(modules), "p95 under 30"),
        ("lines with a comment", f"{comment_share(modules):.1f} %", "at least 4 %"),
        ("public class names that stand twice", str(len(doubles)), "0"),
        (
            "files a folder: median / most",
            f"{statistics.median(sizes.values()):g} / {max(sizes.values())}",
            "4 to 12",
        ),
        ("folders with fewer or more files", f"{len(odd)} of {len(sizes)}", "0"),
    ]
    details = [
        (
            "Back-arrows",
            [
                f"{package}: {one} -> {other}: {line}"
                for package, one, other in back
                for line in found[package][one, other]
            ],
        ),
        ("Names that plugins import", [f"{package}: {count}" for package, count in by_package.most_common()]),
        ("Not in the guide", sorted({f"{source}:{name}" for source, name in names if name not in known})),
        ("Classes that stand twice", [f"{name}: {', '.join(where)}" for name, where in doubles.items()]),
        ("Folders of other sizes", [f"{folder}: {size}" for folder, size in odd.items()]),
    ]
    return rows, details


def _with_code(modules: list[Module]) -> int:
    return sum(module.has_code for module in modules)


def _spread(modules: list[Module]) -> str:
    return " / ".join(map(str, function_lengths(modules, 0.5, 0.95, 1))) or "none"


def main(words: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to measure")
    parser.add_argument("--details", action="store_true", help="also print the names behind the numbers")
    options = parser.parse_args(words)
    rows, details = measure(options.root)
    print("| | measured | goal |\n| --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    for title, lines in details if options.details else []:
        print(f"\n{title}:", *(lines or ["-"]), sep="\n    ")


if __name__ == "__main__":
    main()
