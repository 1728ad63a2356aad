"""Which distributions a bare machine has, which tts-train needs besides, and at which versions."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

from gpu_blocks.environment import BARE, BESIDES, canonical, dependencies
from gpu_blocks.job import ROOT


def bare() -> set[str]:
    """Return the distributions of a bare machine, as far as they are installed here."""
    return closure(BARE, set())


def lacking(version: str | None = None) -> set[str]:
    """Return the distributions that a bare machine with this Python lacks, as far as they are installed here."""
    return closure([*dependencies(), *BESIDES], bare(), version=version)


def closure(wanted: Iterable[str], there: set[str], *, version: str | None = None) -> set[str]:
    """Return ``wanted`` and all they need, without what is there; by the metadata of what is installed here."""
    environment: dict[str, str] = {**default_environment(), "extra": ""}  # type: ignore[dict-item]
    if version:
        environment |= {"python_version": version, "python_full_version": f"{version}.0"}
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    queue = [Requirement(each) for each in wanted]
    while queue:
        need = queue.pop()
        name, extras = canonical(need.name), frozenset(need.extras)
        if name in there or (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            more = [Requirement(each) for each in requires(name) or ()]
        except PackageNotFoundError:
            continue
        found.add(name)
        for each in more:
            if each.marker is None or any(
                each.marker.evaluate({**environment, "extra": extra}) for extra in extras or {""}
            ):
                queue.append(each)
    return found


def pinned(version: str, *, constraints: Path = ROOT / "constraints.txt") -> dict[str, str]:
    """Return the version of each distribution that constraints.txt has for a Python version."""
    environment: dict[str, str] = {**default_environment(), "extra": ""}  # type: ignore[dict-item]
    environment |= {"python_version": version, "python_full_version": f"{version}.0"}
    found = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate(environment):
                found[canonical(need.name)] = str(need.specifier).removeprefix("==")
    return found
