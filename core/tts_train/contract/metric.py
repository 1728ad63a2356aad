"""What listens to speech: a metric measures it in named figures, a recogniser tells what is said."""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from tts_train.errors import ConfigError
from tts_train.sound import Sound

Better: TypeAlias = Literal["higher", "lower", "one", "neither"]
"""Where a figure is best: high, low, at 1, or nowhere by itself."""
Want: TypeAlias = Literal["text", "reference", "voice"]

INSTALL_EXTRA = "pip install 'tts-train[eval]'"
INSTALL_RECOGNISERS = "pip install 'tts-train[asr]'"


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
        return _absent(self.packages, self.install)

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


@dataclass(frozen=True, kw_only=True)
class HeardText:
    """What a recogniser hears in one clip."""

    text: str
    """Empty where nothing is said."""
    confidence: float
    """How sure it is of the text, 0 to 1: the geometric mean of its words' or tokens' probabilities."""
    language: str | None = None
    """Lower case, such as ``en``: the one that was given, or the one that was heard; None where it cannot tell."""
    language_confidence: float | None = None
    """How sure it is of the language, 0 to 1; None where the language was given."""
    words: tuple[tuple[str, float, float], ...] = ()
    """Each with where it begins and ends, in seconds; empty where it does not tell them."""


class Recogniser(ABC):
    """Tells what is said, one clip at a time.

    Making one is cheap: its model is loaded at the first call of :meth:`settings` or :meth:`recognise`. It is sent to
    the processes of ``--workers``, so it must be picklable, and keeps no loaded model in a field.
    """

    name: ClassVar[str]
    """What ``--recogniser`` takes; it stands in ``text_by`` of the rows."""
    model: str | None = None
    """Which weights it takes, as they were named; it stands in the rows' facts."""
    worth: ClassVar[str] = ""
    """One sentence for the report: what to expect of its texts."""
    languages: ClassVar[frozenset[str] | None] = None
    """Languages that it knows; None is all."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Optional packages it imports."""
    install: ClassVar[str] = INSTALL_RECOGNISERS
    """What to type where one of them is missing."""

    def missing(self) -> str | None:
        """Say what must be installed or given before anything can be recognised; None if nothing."""
        return _absent(self.packages, self.install)

    def lacks(self, language: str | None) -> str | None:
        """Say why a language cannot be recognised; None if it can. No language means: tell it by the sound."""
        if language is None or self.languages is None or language in self.languages:
            return None
        return f"{self.name} knows {', '.join(sorted(self.languages))} only, not {language}"

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Return what its answers depend on besides the clip, in plain types: the hash of its weights, above all.

        Asked once, before any clip is read, and only where :meth:`missing` says None: what is not there is told here.

        Raises:
            ConfigError: if its model cannot be had; the message says what to type.
        """

    @abstractmethod
    def recognise(self, sound: Sound, language: str | None) -> HeardText:
        """Return what is said.

        Args:
            sound: the clip, mono.
            language: lower case, such as ``en``; None: tell it by the sound.
        """

    def recognise_many(self, sounds: Sequence[Sound], languages: Sequence[str | None]) -> list[HeardText]:
        """Return what is said in each of some clips; override it where several at once take less time.

        Args:
            sounds: about 16 clips, mono.
            languages: of each, as for :meth:`recognise`.
        """
        return [self.recognise(sound, language) for sound, language in zip(sounds, languages, strict=True)]


def _absent(packages: Iterable[str], install: str) -> str | None:
    # Looked for, not imported: some of these packages take seconds.
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    return f"{', '.join(absent)} is not installed: {install}" if absent else None


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
