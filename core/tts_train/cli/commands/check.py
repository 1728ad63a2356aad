"""``tts-train check``: what is in a corpus or a prepared folder, before any time is spent on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts_train.cli import COMMANDS
from tts_train.cli.helping import load
from tts_train.cli.next_step import after_check
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import WordsParser, with_underscores
from tts_train.configuration.select import Chosen, select
from tts_train.contract.backend import resolve
from tts_train.corpus.own_output import is_finished
from tts_train.disk.apart import require_apart
from tts_train.errors import ConfigError
from tts_train.jobs.deep import DEEP, deep_check, require_deep
from tts_train.plugins import working_backends
from tts_train.progress import Progress, write_line

if TYPE_CHECKING:
    from tts_train.contract.jobs import PrepareJob
    from tts_train.corpus.audio.read import RowReader
    from tts_train.corpus.read import Corpus

_PATH = "recordings with text, a hub data set, or a folder that prepare wrote"
_DROPPED = "JSONL file to write each dropped row and its reason to"
_PATHS = {"out": Path, "kept": Path}
_WORKERS = (
    "processes that read audio; 0 reads in this one, which a file that kills its decoder ends (1 drops that file)"
)
_JSON = "print one JSON object"
_DEEP = "measure sound and text of every clip and say what is wrong: noise, clipping, texts that do not belong, …"


def run(verb: str, words: list[str]) -> int:
    """Describe PATH; exit code 2, after the report, where more rows would be dropped than allowed."""
    selection = select(words, configs=False)
    job: PrepareJob | None = None
    if selection.backend is None:
        options = _parse(verb, words)
    else:
        chosen = load(selection, verb, "prepare")
        options, job = _parse_job(verb, selection.rest, chosen)
    require_deep(options)
    path = Path(options["path"])
    # Said below where there is no corpus.
    if options["dropped"] is not None and path.exists():
        # A list beside the recordings would be taken for theirs.
        folder = path if path.is_dir() else path.parent
        require_apart(folder, options["dropped"], given="the corpus in", option="--dropped")
    _require_file(options["dropped"])
    if is_finished(path):
        if options["deep"]:
            raise ConfigError(f"{path} holds features that prepare made, and no sound. Give --deep the recordings.")
        from tts_train.datasets.store.shards import describe_prepared

        print_report(describe_prepared(path), as_json=options["json"])
        return 0
    _survey(options, job)
    # Rows that --drop names are still in the corpus: prepare would read them, too.
    if job is not None and not options["json"] and (options["kept"] or not options["drop"]):
        after_check(options["path"], words, kept=options["kept"])
    return 0


def _require_file(dropped: Path | None) -> None:
    """Say it before every recording was read."""
    if dropped is not None and (dropped.is_dir() or not dropped.parent.is_dir()):
        raise ConfigError(f"--dropped {dropped} must be a file in a folder that exists. Make that folder.")


def _parse(verb: str, words: list[str]) -> dict[str, Any]:
    parser = WordsParser(verb, COMMANDS[verb][1])
    parser.epilog = "--backend NAME applies the limits of its prepare, and takes the options of that."
    parser.add_argument("path", help=_PATH)
    parser.add_argument("--corpus_format", default="auto", help="layout, or its columns, as in 'audio|speaker|text'")
    parser.add_argument("--max_dropped", type=float, default=0.05, help="share of rows that may be dropped (0.05)")
    parser.add_argument("--workers", type=int, default=0, help=_WORKERS)
    parser.add_argument("--dropped", type=Path, help=_DROPPED)
    parser.add_argument("--deep", action="store_true", help=_DEEP)
    for name, about in DEEP.items():
        parser.add_argument(f"--{name}", type=_PATHS.get(name, str), help=about)
    parser.add_argument("--json", action="store_true", help=_JSON)
    return dict(vars(parser.parse_args(with_underscores(words))))


def _parse_job(verb: str, words: Sequence[str], chosen: Chosen) -> tuple[dict[str, Any], PrepareJob]:
    """Take the options of the backend's ``prepare``, so that it refuses here what it would refuse there."""
    from tts_train.configuration.arguments import JobParser, read_help_texts

    if chosen.stage.prepare is None:
        which = f"Stage {chosen.stage.name!r} of backend {chosen.backend.name!r}"
        raise ConfigError(f"{which} offers no prepare, and so has no limits to apply. Leave --backend out.")
    read_help_texts(words)
    job_class = resolve(chosen.stage.prepare)
    parser = JobParser(prog=f"tts-train {verb}", description=COMMANDS[verb][1])
    parser.add_argument("path", type=str, help=_PATH)
    parser.add_class_arguments(job_class, None, skip={"corpus", "out"})
    parser.add_argument("--dropped", type=Path | None, default=None, help=_DROPPED)
    parser.add_argument("--deep", action="store_true", help=_DEEP)
    for name, about in DEEP.items():
        parser.add_argument(f"--{name}", type=_PATHS.get(name, str) | None, default=None, help=about)
    parser.add_argument("--json", action="store_true", help=_JSON)
    values = parser.instantiate(parser.parse_args(with_underscores(list(words)))).as_dict()
    options = {name: values.pop(name) for name in ("path", "dropped", "json", "deep", *DEEP)}
    # Nothing is written, and so it is nowhere.
    job = job_class(corpus=Path(options["path"]), out=Path(os.devnull), **values)
    return {**options, **{name: getattr(job, name) for name in ("corpus_format", "max_dropped", "workers")}}, job


def _survey(options: dict[str, Any], job: PrepareJob | None) -> None:
    from tts_train.corpus.probing import survey

    applied = False

    def reader(corpus: Corpus) -> RowReader | None:
        nonlocal applied
        found = job.reader(corpus) if job is not None else None
        # Only a backend whose reader needs no network can apply its rules here.
        applied = found is not None
        return found

    if options["deep"]:
        _deep(options, reader if job is not None else None)
        return

    def report(found: dict[str, Any]) -> None:
        if not applied:
            write_line(_left_out(options["path"], job))
        print_report(found, as_json=options["json"])

    with Progress("Reading recordings") as progress:
        survey(
            options["path"],
            layout=options["corpus_format"],
            max_dropped=options["max_dropped"],
            workers=options["workers"],
            dropped_path=options["dropped"],
            reader=reader,
            progress=progress.to,
            on_report=report,
        )


def _deep(options: dict[str, Any], reader: Callable[[Corpus], RowReader | None] | None) -> None:
    done = deep_check(options, reader)
    if options["json"]:
        print_report(done.figures, as_json=True)
    else:
        print_report(done.in_short(), as_json=False)
        print("\n" + "\n".join(done.summary))
        print("\nNext:\n\n" + "\n".join(done.figures["next"]))
    # After the report, as without --deep.
    if done.refused is not None:
        raise done.refused


def _left_out(path: str, job: PrepareJob | None) -> str:
    if job is not None:
        return "The rules of every backend were applied; what else this backend refuses, only its prepare can tell."
    prepares = (backend.name for backend in working_backends() if any(stage.prepare for stage in backend.stages))
    names = " or ".join(prepares) or "NAME"
    return (
        "The limits of a backend (length, languages, text that it can read) were not applied. "
        f"To apply those of its prepare: tts-train check {path} --backend {names}"
    )
