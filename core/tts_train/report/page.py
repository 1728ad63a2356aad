"""Write ``report.html``: one page about a run, complete in itself, that opens without a network."""

from __future__ import annotations

import importlib.resources
from html import escape
from pathlib import Path
from string import Template

from tts_train.report import curves, sections, sound
from tts_train.report.onward import onward
from tts_train.report.planned import plan_and_run
from tts_train.report.source import Run, read_run

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
    draft.replace(target)
    return target


def render(run: Run) -> str:
    """Return the page as HTML."""
    package = importlib.resources.files(__package__)
    template = Template(package.joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        style=package.joinpath("style.css").read_text(encoding="utf-8"),
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
