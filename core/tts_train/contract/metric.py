"""What a metric is: named figures, each with its unit and direction, and what it needs to be measured."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from tts_train.errors import ConfigError
from tts_train.sound import Sound

Better: TypeAlias = Literal["higher", "lower", "one", "neither"]
"""Where a figure is best: high, low, at 1, or nowhere by itself."""
Want: TypeAlias = Literal["text", "reference", "voice"]

INSTALL_EXTRA = "pip install 'tts-train[eval]'"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that a metric gives."""

    name: str
    """Column of tables and files."""
    unit: str
    """For people; empty for a plain number."""
    better: Better
    """Where it is best."""
    summary: str
    """One sentence: what it says."""
    digits: int = 2
    """Decimals in tables."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """One sentence as it was spoken, with what it can be held against."""

    sound: Sound
    text: str
    language: str | None = None
    """Lower case, such as ``en``; None where nobody said."""
    reference: Sound | None = None
    """The recording of the same sentence."""
    voice: tuple[Sound, ...] = ()
    """Other recordings of the same speaker."""


class Metric(ABC):
    """Measures takes one at a time. Making one is cheap: weights are loaded at the first take."""

    name: ClassVar[str]
    """What ``--metrics`` takes."""
    figures: ClassVar[tuple[Figure, ...]]
    """What :meth:`measure` returns, as far as a take has it."""
    wants: ClassVar[frozenset[Want]] = frozenset()
    """What a take must bring besides its sound."""
    languages: ClassVar[frozenset[str] | None] = None
    """Languages it can measure; None is all."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Optional packages it imports."""
    install: ClassVar[str] = INSTALL_EXTRA
    """What to type where one of them is missing."""

    @abstractmethod
    def measure(self, take: Take) -> Mapping[str, float]:
        """Return its figures of a take by name, without those that this take does not have.

        Called only where :meth:`missing` and :meth:`lacks` say None.
        """

    def missing(self) -> str | None:
        """Say what must be installed or given before anything can be measured; None if nothing."""
        # Looked for, not imported: some of these packages take seconds.
        absent = [package for package in self.packages if importlib.util.find_spec(package) is None]
        return f"{', '.join(absent)} is not installed: {self.install}" if absent else None

    def lacks(self, take: Take) -> str | None:
        """Say why this take cannot be measured; None if it can."""
        if self.languages is not None and take.language not in self.languages:
            known = ", ".join(sorted(self.languages))
            given = "the rows name no language; give --language" if take.language is None else f"not {take.language}"
            return f"knows {known} only ({given})"
        has = {"text": bool(take.text.strip()), "reference": take.reference is not None, "voice": bool(take.voice)}
        why = {
            "text": "the row has no text",
            "reference": "there is no recording of this sentence",
            "voice": "there is no other recording of this speaker",
        }
        # Sorted, since a set of words may have another order in each process: the same lack is told each time.
        return next((why[want] for want in sorted(self.wants) if not has[want]), None)


def package_folder(package: str, install: str = INSTALL_EXTRA) -> Path:
    """Return the folder of an installed package without importing it.

    Raises:
        ConfigError: if it is not installed; the message says what to type.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"{package} is not installed: {install}")
    return Path(next(iter(spec.submodule_search_locations)))


def optional(module: str, install: str = INSTALL_EXTRA) -> Any:  # noqa: ANN401 - a module that ships no types
    """Import an optional package.

    Raises:
        ConfigError: if it is not installed; the message says what to type.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{module} cannot be imported ({error}): {install}") from error
