"""The commands that hear, score, export, use and continue a run, ready to be copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from tts_train.report.source import Run
from tts_train.shell import quoted

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
