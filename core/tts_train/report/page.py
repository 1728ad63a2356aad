"""Write ``report.html``: one page about a run, complete in itself, that opens without a network."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import soundfile

from tts_train.errors import quoted
from tts_train.report import curves, sections, sound
from tts_train.report.samples import write_sample
from tts_train.report.sections import plan_and_run
from tts_train.report.source import Run, read_run

FORMATS = "formats"
"""Entry of the run card: the export formats of its stage, each with what it is for."""
SPEAKS = "speaks"
"""Entry of the run card: whether ``tts-train synth`` and ``eval`` take its runs; a card without it is trusted to."""


def onward(run: Run) -> str:
    """Return what to do next, a command each."""
    items = "".join(f"<li>{escape(name)}<pre><code>{escape(line)}</code></pre></li>" for name, line in _commands(run))
    return f'<ul class="commands">{items}</ul>'


def _commands(run: Run) -> Iterator[tuple[str, str]]:
    folder, speaks = quoted(run.folder), run.card.get(SPEAKS) is not False
    yield from _heard(run, folder) if speaks else ()
    yield from _exports(folder, run.card.get(FORMATS), speaks=speaks)
    # The run's own configuration, in which every name and default is resolved.
    yield "Continue it, or repeat it elsewhere", f"tts-train fit -c {quoted(run.folder / 'config.yaml')}"
    yield "See its curves and samples in TensorBoard", f"tensorboard --logdir {quoted(run.folder / 'logs')}"


def _heard(run: Run, folder: str) -> Iterator[tuple[str, str]]:
    yield "Hear it say something", f'tts-train synth {folder} --text "Hello there." --out hello.wav'
    if len(run.checkpoints) > 1:
        first = quoted(run.folder / "checkpoints" / min(run.checkpoints))
        yield "Compare checkpoints by score", f"tts-train eval {first} {folder} --data RECORDINGS --out scores/"
    else:
        yield "Score it", f"tts-train eval {folder} --data RECORDINGS --out scores/"


def _exports(folder: str, formats: object, *, speaks: bool) -> Iterator[tuple[str, str]]:
    """One command for each format, and one that uses the first export."""
    if not isinstance(formats, Mapping) or not formats:
        yield "See the export formats", "tts-train formats"
        yield "Export it for an inference tool", f"tts-train export {folder} --format FORMAT --out voice/"
        return
    for name, summary in formats.items():
        out = quoted(f"voice-{name}/")
        yield f"Export it: {summary}", f"tts-train export {folder} --format {quoted(name)} --out {out}"
    first = quoted(f"voice-{next(iter(formats))}/")
    if speaks:
        yield "Use the export", f'tts-train synth {first} --text "Hello there." --out hello.wav'


REPORT_FILE = "report.html"


def write_report(run_dir: Path, out: Path | None = None) -> Path:
    """Write the report of a run to ``out``, by default ``report.html`` in it, and return its path.

    The page carries its style, curves, pictures and sounds; it loads nothing and runs no script. Parts that the run
    does not have are said to be missing. An earlier report is replaced in one move.

    Raises:
        ConfigError: if ``run_dir`` is no directory.
    """
    page = render(read_run(Path(run_dir)))
    target = Path(out) if out is not None else Path(run_dir) / REPORT_FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(target.name + ".part")
    draft.write_text(page, encoding="utf-8")
    # A browser may have the page open, and a run may end at any moment.
    draft.replace(target)
    return target


def render(run: Run) -> str:
    """Return the page as HTML."""
    package = importlib.resources.files(__package__)
    template = Template(package.joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        style=palette() + package.joinpath("style.css").read_text(encoding="utf-8"),
        title=escape(_name(run)),
        subject=_subject(run),
        status=escape(sections.status(run)),
        voice=_voice(run),
        notes=sections.notes(run),
        headline=sections.headline(run),
        quality=sections.charts(
            curves.quality_charts(run.metrics, languages=sections.languages(run), titles=sections.titles(run)),
            "No loss was logged.",
        ),
        samples=sound.utterances(run) + sections.heard(run),
        rates=sections.charts(
            [*curves.speed_charts(run.metrics), *curves.rate_charts(run.metrics)],
            "Neither speed nor learning rate was logged.",
        )
        + plan_and_run(run),
        data=sections.data(run),
        onward=onward(run),
        files=sections.files(run),
    )


def palette() -> str:
    """Return colours and fonts as CSS variables, in light and dark: what all pages have."""
    return importlib.resources.files(__package__).joinpath("palette.css").read_text(encoding="utf-8")


def _name(run: Run) -> str:
    return run.folder.resolve().name


def _subject(run: Run) -> str:
    """What was trained, on what: as far as the run card and the configuration tell."""
    known = [run.card.get(key) or run.config.get(key) for key in ("backend", "stage")]
    model = sections.nested(run.config, "model")
    start = sections.nested(model, "init_from") or sections.nested(model, "init_args", "init_from")
    trained = " ".join(escape(str(part)) for part in known if part) or "A voice"
    origin = f" from <b>{escape(str(start))}</b>" if start else ""
    return f"<b>{trained}</b>{origin}"


def _voice(run: Run) -> str:
    """The newest sample, large, at the head of the page."""
    take = sound.latest(run)
    if take is None:
        return ""
    text = str(take.facts.get("text", take.sound.stem))
    label = f"Step {take.step}"
    return (
        f'<figure class="voice">{sound.player(take, label=label)}'
        f"<figcaption>“{escape(text)}” <span>{label}</span></figcaption></figure>"
    )


def keep_spoken(
    run_dir: Path,
    wave: Path,
    *,
    name: str,
    text: str,
    beside: Mapping[str, Path] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Copy a sound that a run's newest checkpoint made into ``samples/``, and write the run's page anew.

    Args:
        run_dir: the run's directory.
        wave: the sound.
        name: name of the sample; one of this name and step is replaced.
        text: what was to be said.
        beside: what it is compared with, by folder: ``reference`` the recording, ``codec`` what the codec leaves of it.
        facts: scores of the sound.

    Returns:
        The page.
    """
    # Here: the page itself is written without torch.
    from tts_train.run.checkpoint import open_checkpoint

    step = open_checkpoint(run_dir).step
    # Named as listening while training names them: the page finds samples by ``step-`` and digits (source.py).
    _keep(wave, run_dir / "samples" / f"step-{step:06d}", name, text, facts)
    for folder, other in (beside or {}).items():
        _keep(other, run_dir / "samples" / folder, name, text, None)
    return write_report(run_dir)


def _keep(wave: Path, folder: Path, name: str, text: str, facts: Mapping[str, Any] | None) -> None:
    samples, rate = soundfile.read(wave, dtype="float32")
    write_sample(folder, name, samples, rate, text=text, facts=facts)
