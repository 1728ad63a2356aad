"""What a backend says about itself: frozen descriptions that import neither torch nor Lightning."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from tts_train.errors import ConfigError, TTSTrainError, extra_words

if TYPE_CHECKING:
    from tts_train.contract.jobs import ExportJob, PrepareJob, SynthJob

T = TypeVar("T")

Reference: TypeAlias = "type[T] | str"
"""A class, or ``"package.module:Class"`` where importing it now would load torch for a command that needs none."""


def resolve(reference: type[T] | str) -> type[T]:
    """Import the class that a reference names.

    Raises:
        TTSTrainError: if there is no such module, or no such name in it.
    """
    if not isinstance(reference, str):
        return reference
    module = reference.partition(":")[0]
    try:
        found: type[T] = pkgutil.resolve_name(reference)
    except ModuleNotFoundError as error:
        # Another module that this one imports and that is missing keeps its traceback.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise TTSTrainError(_misnamed(reference, f"no module {error.name} can be imported")) from error
    except AttributeError as error:
        # So does an attribute that the module's own code looks for in vain.
        if error.obj is None or error.obj is not sys.modules.get(module):
            raise
        near = get_close_matches(str(error.name), vars(error.obj), n=1)
        hint = f"; there is {near[0]}" if near else ""
        raise TTSTrainError(_misnamed(reference, f"{module} has no {error.name}{hint}")) from error
    return found


def _misnamed(reference: str, why: str) -> str:
    return f"A backend's table names {reference!r}, and {why}. Correct it in the backend's plugin.py."


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """How FSDP cuts a network, as plain data; the shared strategy applies it."""

    wrap: tuple[str, ...] = ()
    """Class names of the blocks that are sharded and gathered one at a time, for example ``LlamaDecoderLayer``."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format that a stage can be exported to."""

    summary: str
    """One sentence: what it is and who loads it."""
    job: Reference[ExportJob]
    """The job that writes it and reads it back."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """How ``tts-train demo`` shows a stage on a CPU, offline, in a minute or two."""

    recipe: str
    """Name of the recipe that is trained."""
    kill_at: int
    """Step at which the run is killed, to be continued."""
    judged_by: str = "val/loss"
    """The logged figure that shows whether training works."""
    falls_below: float = 0.5
    """Share of this figure's first value that its last one must be below."""
    prepare: tuple[str, ...] = ()
    """Words for ``tts-train prepare`` besides the corpus; stages with the same words share what it makes."""
    fit: tuple[str, ...] = ()
    """Words for ``tts-train fit`` besides the recipe; ``{gpt}`` stands for the run of the earlier stage ``gpt``."""
    formats: tuple[str, ...] = ()
    """Formats that are exported."""
    speaks_with: Literal["export", "run"] = "export"
    """What ``tts-train synth`` is given: the first export, or the run, where an export alone cannot speak."""
    synth: tuple[str, ...] = ()
    """Words for ``tts-train synth`` besides the text; ``{gpt}`` as above."""
    remark: str = ""
    """What a listener must know about the sound."""
    learned: tuple[str, ...] | None = None
    """Words for ``tts-train eval`` on sentences that were trained on, where the stage learns some in a demo's time."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that a backend imports; ``tts-train doctor`` looks for it."""

    name: str
    """As ``pip install`` knows it."""
    module: str = ""
    """As it is imported, where that is another name."""
    purpose: str = ""
    """What it is for, as in ``reads Chinese text``; said where an optional one is missing."""
    needed: bool = True
    """Whether the backend does nothing without it: ``doctor`` fails where it is missing."""
    extra: str = ""
    """The extra of tts-train that brings it, if one does."""
    install: str = ""
    """What to type where it is missing; empty for ``pip install`` of its extra or name."""

    @property
    def imported_as(self) -> str:
        """The module to look for."""
        return self.module or self.name.replace("-", "_")

    @property
    def command(self) -> str:
        """What to type where it is missing."""
        return self.install or f"pip install {extra_words(self.extra) if self.extra else self.name}"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How ``report.html`` writes about a logged figure, of which the part after the split is the key.

    ``val/slot_accuracy/0`` is a part, ``0``, of the figure ``slot_accuracy``.
    """

    title: str
    """Of its chart."""
    part: str = ""
    """What a part is, where parts are numbers: ``slot`` makes ``slot 0`` of ``0``."""
    unit: str = ""
    """Behind its values, with a space where one belongs."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training job of a backend: what it trains, on which data, and what comes before and after."""

    name: str
    """An identifier, unique in the backend."""
    summary: str
    """One sentence for listings."""
    model: Reference[Any]
    """The ``LightningModule``; its constructor's arguments become ``--model.*``."""
    data: Reference[Any]
    """The ``LightningDataModule``; its constructor's arguments become ``--data.*``."""
    prepare: Reference[PrepareJob] | None = None
    """Recordings to training features, if the stage has features to make."""
    synth: Reference[SynthJob] | None = None
    """Text to sound with a trained model."""
    formats: Mapping[str, Format] = field(default_factory=dict)
    """Export formats by name."""
    sharding: Sharding = Sharding()
    """How FSDP cuts the network."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Configuration keys that always follow another: ``{"model.max_tokens": "data.max_tokens"}`` (source: target)."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Configuration defaults of this stage, for example ``{"trainer.gradient_clip_val": 1.0}``."""
    identity: tuple[str, ...] = ()
    """Keys that a run may not change when it continues; a prefix covers what is below it (``"model.lora"``)."""
    demo: Demo | None = None
    """How the stage is shown by ``tts-train demo``."""
    tiny: Mapping[str, Any] = field(default_factory=dict)
    """Settings with which the stage trains for two steps on a CPU in seconds; used by ``check_backend``."""
    titles: Mapping[str, Curve] = field(default_factory=dict)
    """How the report writes about figures of this stage alone, besides :attr:`Backend.titles`."""

    def __post_init__(self) -> None:
        # Demos name the run of another stage as a format field, ``{gpt}``, in which a dot or a bracket
        # would have a meaning of its own.
        if not self.name.isidentifier():
            raise ConfigError(f"A stage's name must be an identifier, and {self.name!r} is none.")


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A family of TTS models offered by one plugin."""

    name: str
    """The name users type after ``--backend``; equal to its entry point's."""
    summary: str
    """One sentence for listings."""
    stages: tuple[Stage, ...]
    """Training jobs, in the order in which a user runs them."""
    default: str = ""
    """The stage that is meant where none is named; empty where one of several must be named."""
    start: tuple[str, ...] = ()
    """Recipes that ``tts-train init`` copies for a beginner, one for each stage that a voice needs. Recipes themselves
    are the YAML files in the folder ``recipes`` of the backend's package."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Its own reasons to drop a row in ``prepare``, each with a sentence that says what to do about it."""
    packages: tuple[Package, ...] = ()
    """Packages that it imports besides those of tts-train."""
    titles: Mapping[str, Curve] = field(default_factory=dict)
    """How the report writes about its figures, by the name between split and part."""

    def __post_init__(self) -> None:
        # A prepared set is of the kind ``backend/what``; PreparedSet reads the backend back from what stands
        # before the slash.
        if not self.name.isidentifier():
            raise ConfigError(f"A backend's name must be an identifier, and {self.name!r} is none.")
        names = [stage.name for stage in self.stages]
        # Options, runs and exports say a stage by its name alone.
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"Backend {self.name!r} must have stages with different names, not {names}.")
        if self.default and self.default not in names:
            raise ConfigError(f"Backend {self.name!r} has no stage {self.default!r} that could be its default.")

    def stage(self, name: str | None, *, for_job: Literal["prepare", "synth"] | None = None) -> Stage:
        """Return the stage called ``name``.

        Args:
            name: Its name; None means the only one, or the backend's default.
            for_job: What it is wanted for: stages that do that with the same job need not be told apart.

        Raises:
            ConfigError: if there is no such stage, or None was given and it matters which of several.
        """
        by_name = {stage.name: stage for stage in self.stages}
        name = name or self.default or None
        if name in by_name:
            return by_name[name]
        if name is None and len(self.stages) == 1:
            return self.stages[0]
        if name is None and for_job is not None:
            able = [stage for stage in self.stages if getattr(stage, for_job) is not None]
            # Stages that share a job prepare one set for all of them, so which was meant does not matter.
            if len({getattr(stage, for_job) for stage in able}) == 1:
                return able[0]
        given = "No stage was given" if name is None else f"{name!r} is not a stage"
        raise ConfigError(f"{given} of backend {self.name!r}. Choose one with --stage: {', '.join(by_name)}.")
