"""``tts-train backends``, ``plugins`` and ``formats``: what is installed. None of them imports torch."""

from __future__ import annotations

from argparse import Namespace

from tts_train.cli.output import print_report
from tts_train.configuration.arguments import WordsParser
from tts_train.plugins import EXTENSIONS, Plugins, installed_backends, installed_extensions, working_backends


def run(verb: str, words: list[str]) -> int:
    """Run one of the three commands."""
    parser = WordsParser(verb)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    if verb == "formats":
        parser.add_argument("--backend", help="backend whose formats to list")
        parser.add_argument("--stage", help="stage whose formats to list; all stages where none is given")
        parser.add_argument("--no-plugin", action="append", default=[], help="plugin to leave out")
    options = parser.parse_args(words)
    report = {"backends": _backends, "plugins": _plugins}[verb]() if verb != "formats" else _formats(options)
    print_report(report, as_json=options.json)
    return 0


def _backends() -> dict[str, object]:
    return {found.name: f"{found.distribution} {found.version}" for found in installed_backends()}


def _plugins() -> dict[str, object]:
    found = {plugin.name: plugin for plugin in [*installed_backends(), *installed_extensions()]}
    listed: dict[str, object] = {
        name: {
            "kind": plugin.kind,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "module": plugin.entry_point.value,
        }
        for name, plugin in found.items()
    }
    return listed or {"none": f"no distribution announces an entry point in the group {EXTENSIONS}"}


def _formats(options: Namespace) -> dict[str, object]:
    names = [options.backend] if options.backend else [backend.name for backend in working_backends()]
    report: dict[str, object] = {}
    for name in names:
        plugins = Plugins(blocked=options.no_plugin)
        backend = plugins.load(name)
        stages = [backend.stage(options.stage)] if options.stage else backend.stages
        for stage in stages:
            for format_name, format_ in plugins.formats(stage).items():
                report[f"{name}/{stage.name}/{format_name}"] = format_.summary
    return report
