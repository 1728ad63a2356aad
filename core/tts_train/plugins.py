"""Finds plugins, loads them, and asks them; the only place that sees pluggy's untyped calls."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from tts_train import builtin
from tts_train.contract import hooks as hookspecs
from tts_train.contract.backend import Backend, Format, Stage
from tts_train.corpus.reasons import declare_reasons
from tts_train.errors import ConfigError, TTSTrainError

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule
    from lightning.pytorch.cli import LightningArgumentParser
    from lightning.pytorch.strategies import Strategy

    from tts_train.contract.metric import Metric, Recogniser

BACKENDS = "tts_train.backends"
EXTENSIONS = "tts_train.plugins"
SELECTION_VARIABLE = "TTS_TRAIN_PLUGINS"
TRACE_VARIABLE = "TTS_TRAIN_TRACE"

log = logging.getLogger(__name__)


class PluginError(TTSTrainError):
    """A plugin failed to load or failed in a hook (exit 70)."""


@dataclass(frozen=True)
class Installed:
    """A plugin as its distribution announces it; nothing of it was imported."""

    name: str
    kind: str
    distribution: str
    version: str
    entry_point: EntryPoint

    @classmethod
    def from_entry_point(cls, point: EntryPoint, kind: str) -> Installed:
        """Read name and version from the entry point's own distribution (it works for editable installs too)."""
        dist = point.dist
        return cls(point.name, kind, dist.name if dist else "?", dist.version if dist else "?", point)

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


def installed_backends() -> list[Installed]:
    """List the backends that are installed, without importing any."""
    return _installed(BACKENDS, "backend")


def installed_extensions() -> list[Installed]:
    """List the extensions that are installed, without importing any."""
    return _installed(EXTENSIONS, "extension")


def working_backends(on_broken: Callable[[str], None] = log.warning) -> Iterator[Backend]:
    """Yield the descriptions of the installed backends, without extensions, for what lists all of them.

    Args:
        on_broken: Told why a backend cannot be loaded; one that is broken keeps no other from being listed.
    """
    for found in installed_backends():
        try:
            yield Plugins(selected=()).load(found.name)
        except TTSTrainError as error:
            on_broken(str(error))


def _installed(group: str, kind: str) -> list[Installed]:
    found = sorted(entry_points(group=group), key=lambda point: point.name)
    return [Installed.from_entry_point(point, kind) for point in found]


class Plugins:
    """The plugins of one command: one backend, the extensions, and the core's own answers.

    Args:
        blocked: names of plugins that are not even imported.
        selected: the only extensions to load; None reads ``TTS_TRAIN_PLUGINS`` (names with commas, empty for
            none) and loads all where that is not set.
    """

    def __init__(self, *, blocked: Iterable[str] = (), selected: Iterable[str] | None = None) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._manager.register(builtin, name="builtin")
        self._blocked = set(blocked)
        for name in self._blocked:
            self._manager.set_blocked(name)
        self._selected = _selected_by_environment() if selected is None else set(selected)
        if os.environ.get(TRACE_VARIABLE):
            self._manager.trace.root.setwriter(sys.stderr.write)
            self._manager.enable_tracing()

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin that is not installed; for tests and notebooks."""
        self._manager.register(plugin, name=name)
        self._check(name or self._manager.get_name(plugin) or repr(plugin))

    def names(self) -> list[str]:
        """Names of the plugins that are loaded."""
        return [name for name, plugin in self._manager.list_name_plugin() if plugin is not None]

    def load(self, backend: str) -> Backend:
        """Import the backend called ``backend`` and every extension, and return the backend's description.

        Raises:
            ConfigError: if it is not installed or is blocked.
            PluginError: if a plugin cannot be imported or implements an unknown hook.
        """
        known = {found.name: found for found in installed_backends()}
        if backend in self._blocked:
            raise ConfigError(f"Backend {backend!r} was chosen and blocked at once: drop --no-plugin {backend}.")
        if backend not in known:
            raise ConfigError(f"No backend {backend!r} is installed. Choose one with --backend: {_listed(known)}.")
        self._import(known[backend])
        for extension in installed_extensions():
            if extension.name not in self._blocked and self._wanted(extension.name):
                self._import(extension)
        return self.backend(expected=backend)

    def load_all(self, on_broken: Callable[[str], None] = log.warning) -> None:
        """Import every backend and every extension, for what is asked of all of them.

        Args:
            on_broken: told why a plugin cannot be loaded; the others are.
        """
        for found in (*installed_backends(), *installed_extensions()):
            if found.name in self._blocked or (found.kind == "extension" and not self._wanted(found.name)):
                continue
            try:
                self._import(found)
            except PluginError as error:
                # It would be found unfit again after each plugin that is imported behind it.
                if self._manager.has_plugin(found.name):
                    self._manager.unregister(name=found.name)
                on_broken(str(error))

    def _wanted(self, name: str) -> bool:
        return self._selected is None or name in self._selected

    def _import(self, found: Installed) -> None:
        try:
            plugin = found.entry_point.load()
        except Exception as error:
            way_out = "" if found.kind == "backend" else f" Go on without it: --no-plugin {found.name}."
            text = f"The {found.kind} plugin {found} could not be imported: {type(error).__name__}: {error}.{way_out}"
            raise PluginError(text) from error
        self._manager.register(plugin, name=found.name)
        self._check(found.name)

    def _check(self, name: str) -> None:
        try:
            # After each plugin, so that the message names the one that does not fit.
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"Plugin {name!r} does not fit this version of tts-train: {error}") from error

    # --- the hooks, typed ---------------------------------------------------------------------------------------

    def backend(self, *, expected: str) -> Backend:
        """Ask the backend plugin for its description."""
        with self._attributed("tts_train_backend"):
            answer: Backend | None = self._manager.hook.tts_train_backend()
        if answer is None or answer.name != expected:
            described = "describes no backend" if answer is None else f"describes a backend called {answer.name!r}"
            raise PluginError(f"The plugin that is installed as backend {expected!r} {described}.")
        try:
            declare_reasons(answer.reasons)
        except ValueError as error:
            raise PluginError(f"Backend {expected!r} gives a reason that cannot be used: {error}") from error
        return answer

    def leaves_to_stage(self, hook: str) -> bool:
        """Tell whether only the core, with what the stage declares, answers a hook."""
        caller: Any = getattr(self._manager.hook, hook)
        return all(impl.plugin is builtin for impl in caller.get_hookimpls())

    def data(self, stage: Stage) -> type[LightningDataModule]:
        """Ask for the data module that feeds ``stage``."""
        with self._attributed("tts_train_data"):
            answer: type[LightningDataModule] = self._manager.hook.tts_train_data(stage=stage)
        return answer

    def model(self, stage: Stage) -> type[LightningModule]:
        """Ask for the module that ``stage`` trains."""
        with self._attributed("tts_train_model"):
            answer: type[LightningModule] = self._manager.hook.tts_train_model(stage=stage)
        return answer

    def arguments(self, parser: LightningArgumentParser, stage: Stage) -> None:
        """Let plugins add options under ``--plugins``."""
        with self._attributed("tts_train_arguments"):
            self._manager.hook.tts_train_arguments(parser=parser, stage=stage)

    def strategy(self, stage: Stage, name: str, options: Mapping[str, object]) -> Strategy | None:
        """Ask for the strategy called ``name``; None leaves it to Lightning."""
        with self._attributed("tts_train_strategy"):
            hook = self._manager.hook.tts_train_strategy
            answer: Strategy | None = hook(stage=stage, name=name, options=options)
        return answer

    def callbacks(self, stage: Stage, options: Mapping[str, object]) -> list[Callback]:
        """Gather the plugins' callbacks for a run of ``stage``."""
        with self._attributed("tts_train_callbacks"):
            answers: list[Iterable[Callback]] = self._manager.hook.tts_train_callbacks(stage=stage, options=options)
            return [callback for answer in answers for callback in answer]

    def formats(self, stage: Stage) -> dict[str, Format]:
        """Merge the export formats of ``stage``; two plugins may not bring one name."""
        merged: dict[str, Format] = {}
        with self._attributed("tts_train_export"):
            answers: list[Mapping[str, Format]] = self._manager.hook.tts_train_export(stage=stage)
        for answer in reversed(answers):  # the core's answer, which pluggy calls last, is the ground
            for name, format_ in answer.items():
                if name in merged:
                    raise PluginError(f"Two plugins bring an export format {name!r}. Block one with --no-plugin NAME.")
                merged[name] = format_
        return merged

    def metrics(self, stage: Stage, weights: Mapping[str, str]) -> list[Metric]:
        """Gather the metrics for ``stage``, the core's first; two plugins may not bring one name."""
        with self._attributed("tts_train_metrics"):
            answers: list[Iterable[Metric]] = self._manager.hook.tts_train_metrics(stage=stage, weights=weights)
            # pluggy asks the core last (trylast), whose metrics come first in tables.
            metrics = [metric for answer in reversed(answers) for metric in answer]
        names = [metric.name for metric in metrics]
        if twice := {name for name in names if names.count(name) > 1}:
            raise PluginError(f"Two plugins bring a metric {min(twice)!r}. Block one with --no-plugin NAME.")
        return metrics

    def recognisers(self, model: str | None) -> list[Recogniser]:
        """Gather the recognisers, the core's first; two plugins may not bring one name."""
        with self._attributed("tts_train_recognisers"):
            answers: list[Iterable[Recogniser]] = self._manager.hook.tts_train_recognisers(model=model)
            found = [recogniser for answer in reversed(answers) for recogniser in answer]
        names = [recogniser.name for recogniser in found]
        if twice := {name for name in names if names.count(name) > 1}:
            raise PluginError(
                f"Two plugins bring a recogniser {min(twice)!r}. Leave one out: {SELECTION_VARIABLE} names the "
                "extensions to load."
            )
        return found

    @contextmanager
    def _attributed(self, hook: str) -> Iterator[None]:
        """Say which plugin raised; errors that speak to the user pass as they are."""
        try:
            yield
        except TTSTrainError:
            raise
        except Exception as error:
            culprit = self._culprit(error, hook)
            raise PluginError(f"Plugin {culprit!r} failed in hook {hook}: {type(error).__name__}: {error}") from error

    def _culprit(self, error: Exception, hook: str) -> str:
        caller: Any = getattr(self._manager.hook, hook)
        by_code = {impl.function.__code__: impl.plugin_name for impl in caller.get_hookimpls()}
        name, traceback = "?", error.__traceback__
        while traceback is not None:
            # From the outside in: the last implementation that is met is where it failed.
            name = by_code.get(traceback.tb_frame.f_code, name)
            traceback = traceback.tb_next
        return name


def _selected_by_environment() -> set[str] | None:
    text = os.environ.get(SELECTION_VARIABLE)
    return None if text is None else {name.strip() for name in text.split(",") if name.strip()}


def _listed(known: Mapping[str, Installed]) -> str:
    return ", ".join(known) or "none is installed"
