"""For the tests of backends: does a backend keep the promises that tts-train makes in its name?"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tts_train.checking import check_run
from tts_train.contract.backend import Backend, Stage
from tts_train.errors import TTSTrainError
from tts_train.jobs.run import export, speak
from tts_train.plugins import Plugins

STEPS = 4
SENTENCE = "Good morning."


class BackendPlugin(Protocol):
    """A module that satisfies this is a backend plugin: ``_: BackendPlugin = my_plugin`` is checked statically."""

    def tts_train_backend(self) -> Backend:
        """Describe the backend."""


def check_backend(
    name: str,
    *,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    synth: Mapping[str, Any] | None = None,
    stages: Sequence[str] | None = None,
) -> None:
    """Assert that an installed backend keeps every stage's promises.

    Every stage is trained for four steps on the CPU with its tiny settings, stopped after two and continued, and the
    weights must equal those of an uninterrupted run bit for bit; every export format is written and read back; a stage
    with a voice must speak a sentence to a sound file that can be read. What a stage teaches must be what it generates,
    as :func:`tts_train.checking.check_training` measures it.

    Args:
        name: the backend's name.
        folder: an empty folder for the runs.
        settings: further settings of the runs, for example ``{"data.path": "prepared"}``.
        synth: further options for speaking, for example ``{"codec": "tiny"}``.
        stages: the stages to check, where they need different settings; None for all.

    Raises:
        AssertionError: naming the promise that is broken.
    """
    plugins = Plugins(selected=())
    backend = plugins.load(name)
    for stage in backend.stages if stages is None else [backend.stage(each) for each in stages]:
        _check_options(plugins, stage)
        _check_continuation(backend, stage, folder, settings or {})
        for format_name in plugins.formats(stage):
            with _works(f"exporting {stage.name} as {format_name}"):
                out = folder / f"{stage.name}-{format_name}"
                export(folder / f"{stage.name}-whole", format=format_name, out=out)
        exports = [folder / f"{stage.name}-{format_name}" for format_name in plugins.formats(stage)]
        check_run(stage.name, folder / f"{stage.name}-whole", exports)
        if stage.synth is not None:
            _check_speech(stage, folder, synth or {})


@contextmanager
def _works(what: str) -> Iterator[None]:
    """Fail with the exit code that the command would end with, and what it would print."""
    try:
        yield
    except Exception as error:  # whatever it is, the promise is broken
        code = getattr(error, "exit_code", TTSTrainError.exit_code)
        told = str(error) if isinstance(error, TTSTrainError) else f"{type(error).__name__}: {error}"
        raise AssertionError(f"{what} ended with exit code {code}: {told}") from error


def _check_options(plugins: Plugins, stage: Stage) -> None:
    for what, owner in (("model", plugins.model(stage)), ("data", plugins.data(stage))):
        # Of all bases: an option that is handed on is described where it is taken.
        documented = "\n".join(inspect.getdoc(base) or "" for base in owner.__mro__)
        for parameter in _parameters(owner):
            option = f"--{what}.{parameter.name} of stage {stage.name!r}"
            assert parameter.annotation is not inspect.Parameter.empty, f"{option} has no type"
            assert f"{parameter.name}:" in documented, (
                f"{option} has no line under Args: in {owner.__name__}'s docstring"
            )


def _parameters(owner: type) -> list[inspect.Parameter]:
    """Return what a class's constructor takes, and what it hands on to the base class's as ``**options``."""
    taken: dict[str, inspect.Parameter] = {}
    for base in owner.__mro__:
        if "__init__" not in vars(base):
            continue
        _, *given = inspect.signature(vars(base)["__init__"]).parameters.values()
        handed_on = [each for each in given if each.kind is inspect.Parameter.VAR_KEYWORD]
        taken = {each.name: each for each in given if each not in handed_on} | taken
        if not handed_on:
            break
    return list(taken.values())


def _check_continuation(backend: Backend, stage: Stage, folder: Path, settings: Mapping[str, Any]) -> None:
    from tts_train.training.run import Training

    recipe = {"backend": backend.name, "stage": stage.name, **stage.tiny, **settings, "trainer.accelerator": "cpu"}
    whole, parts = folder / f"{stage.name}-whole", folder / f"{stage.name}-parts"
    # The last goes on with the run that the one before it left half way.
    for steps, run in ((STEPS, whole), (STEPS // 2, parts), (STEPS, parts)):
        with _works(f"training stage {stage.name!r} to step {steps}"):
            Training(recipe, {"run_dir": run, "trainer.max_steps": steps}).fit()
    different = _different_weights(whole, parts)
    assert not different, f"stage {stage.name!r} does not continue exactly: {different[:5]} differ"


def _check_speech(stage: Stage, folder: Path, options: Mapping[str, Any]) -> None:
    import soundfile

    out = folder / f"{stage.name}.wav"
    with _works(f"speaking with stage {stage.name!r}"):
        speak(folder / f"{stage.name}-whole", text=SENTENCE, out=out, **options)
    assert out.is_file(), f"speaking with stage {stage.name!r} ended with exit code 0 and wrote no {out}"
    assert soundfile.info(out).frames, f"what stage {stage.name!r} spoke is empty: {out}"


def _different_weights(one: Path, other: Path) -> list[str]:
    import torch

    from tts_train.run.checkpoint import open_checkpoint

    left: Mapping[str, Any] = open_checkpoint(one).weights()
    right: Mapping[str, Any] = open_checkpoint(other).weights()
    assert left.keys() == right.keys(), "the two runs have different weights"
    return [key for key in left if not torch.equal(left[key], right[key])]
