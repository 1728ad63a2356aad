"""``tts-train init``: a commented recipe for a corpus, and the commands that come next, which run as pasted."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tts_train.cli import COMMANDS
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import WordsParser
from tts_train.configuration.outline import group_of
from tts_train.configuration.recipe_file import read_config
from tts_train.contract.backend import Backend
from tts_train.disk.apart import require_apart
from tts_train.errors import ConfigError, DataError, NoTextsError, extra_words, quoted
from tts_train.plugins import Plugins, installed_backends
from tts_train.recipes import find_recipe, remark, summary

CORPUS = "corpus"
"""Folder beside the recipe for the clips of recordings that come without texts."""
DISTRIBUTION = "tts-train"
_DATA_PATH = re.compile(r"^(?P<indent>\s+)path:.*$", re.MULTILINE)
# Rows looked at: enough to see a column of languages, few enough for a corpus of any size.
_LANGUAGE, _ROWS = "language", 200


@dataclass(frozen=True)
class _Asked:
    folder: Path
    backend: str
    named: bool
    """Whether the user named the backend."""
    data: Path
    recipe: str | None
    language: str | None


def run(verb: str, words: list[str]) -> int:
    """Write ``recipe.yaml`` into a new or empty place; an existing recipe stays."""
    parser = WordsParser(verb, COMMANDS[verb][1])
    parser.add_argument("folder", type=Path, help="folder for the recipe; the prepared data will go beside it")
    parser.add_argument("--backend", help="family of models; the first that is installed where none is named")
    parser.add_argument("--data", required=True, type=Path, help="recordings, with texts or without")
    parser.add_argument("--recipe", help="recipe to start from; those for a first voice where none is given")
    parser.add_argument("--language", help="language of rows that name none, where the backend asks for it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    backend = options.backend or _first_backend(options.recipe)
    named = options.backend is not None
    report = _init(_Asked(options.folder, backend, named, options.data, options.recipe, options.language))
    if options.json:
        print_report(report, as_json=True)
        return 0
    commands = report.pop("next")
    print_report(report, as_json=False)
    print("\nNext, a line at a time:\n")
    print("\n".join(map(str, commands if isinstance(commands, list) else [])))
    return 0


def _init(asked: _Asked) -> dict[str, object]:
    if not asked.data.exists():
        raise ConfigError(f"There is no corpus at {asked.data}. Give --data the folder or file of your recordings.")
    backend = Plugins().load(asked.backend)
    sources = _sources(backend, asked.recipe)
    folder, prepared, texts = asked.folder, asked.folder / "prepared", _has_texts(asked.data)
    # The order of steps in which nothing is written that a later refusal would leave behind.
    words = _prepare_words(backend, sources, asked, texts=texts)
    corpus = asked.data if texts else folder / CORPUS
    try:
        require_apart(asked.data, prepared if texts else corpus, given="--data")
    except ConfigError as error:
        advice = f"Choose a folder outside of --data {asked.data}."
        raise ConfigError(
            f"The next command would write to {folder}, among what it reads, and refuses that. {advice}"
        ) from error
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file and stays as it is. Choose a folder for the recipe.")
    targets = [folder / name for name in _names(sources)]
    taken = next((target for target in targets if target.exists()), None)
    if taken is not None:
        raise ConfigError(f"{taken} exists and stays as it is. Choose another folder, or remove it first.")
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in zip(sources, targets, strict=True):
        target.write_text(_with_path(source.read_text(encoding="utf-8"), prepared), encoding="utf-8")
    runs = [Path("runs") / (folder.name if len(targets) == 1 else f"{folder.name}-{one.stem}") for one in targets]
    named = ["--backend", asked.backend, *_stage(backend, sources)]
    also = [found.name for found in installed_backends() if found.name != asked.backend]
    chosen = {} if asked.named else {"backend": f"{asked.backend} (by default; also installed: {', '.join(also)})"}
    return {
        **chosen,
        "recipe": ", ".join(map(str, targets)),
        "from": "; ".join(f"{source.stem}: {summary(source)}" for source in sources),
        "card": _said("Card", sources),
        "downloads": _said("Downloads", sources),
        "next": [
            *([] if texts else _corpus_lines(asked, corpus)),
            _line(
                "check",
                corpus,
                *([] if texts else ["--deep"]),
                *(named + words if any(stage.prepare for stage in backend.stages) else []),
            ),
            _line("prepare", *named, "--corpus", corpus, "--out", prepared, *words),
            *(_line("fit", "-c", target, "--run_dir", run) for target, run in zip(targets, runs, strict=True)),
        ],
    }


def _said(what: str, sources: Sequence[Path]) -> str:
    """Return the first sentence under a name in the recipes' comments."""
    told = [(remark(source, what) or "not said").split(". ")[0].rstrip(".") for source in sources]
    return "; ".join(dict.fromkeys(told))


def _first_backend(recipe: str | None) -> str:
    """Return the first backend of tts-train itself that has the recipe, or recipes for beginners; by name."""
    own = [found.name for found in installed_backends() if found.distribution == DISTRIBUTION]
    for name in own:
        with suppress(ConfigError):
            if find_recipe(name, recipe) if recipe else Plugins(selected=()).load(name).start:
                return name
    asked = f" with a recipe {recipe!r}" if recipe else ""
    names = ", ".join(found.name for found in installed_backends())
    raise ConfigError(f"tts-train brings no backend{asked}. Name one with --backend: {names}.")


def _has_texts(data: Path) -> bool:
    """Tell recordings with texts from those without; anything else is told by the first command that reads it."""
    from tts_train.corpus.read import open_corpus

    try:
        open_corpus(data)
    # A DataError itself, and the only one that is asked for here.
    except NoTextsError:
        return False
    except DataError:
        return True
    return True


def _corpus_lines(asked: _Asked, corpus: Path) -> list[str]:
    """Return the commands from recordings without texts to a corpus folder."""
    language = [] if asked.language is None else ["--language", asked.language]
    missing = any(importlib.util.find_spec(package) is None for package in ("silero_vad", "faster_whisper"))
    return [
        *([f"pip install {extra_words('corpus,asr')}"] if missing else []),
        _line("corpus", "slice", asked.data, "--out", corpus, *language),
        _line("corpus", "transcribe", corpus, *language),
        _line("corpus", "review", corpus),
        _line("corpus", "apply", corpus, "--table", corpus / "review" / "review.csv"),
    ]


def _with_path(recipe: str, prepared: Path) -> str:
    path = json.dumps(str(prepared), ensure_ascii=False)  # a blank or a colon in it needs YAML's quotes
    return _DATA_PATH.sub(lambda found: f"{found['indent']}path: {path}", recipe, count=1)


def _line(*words: object) -> str:
    return quoted("tts-train", *words)


def _stage(backend: Backend, sources: Sequence[Path]) -> list[str]:
    """Return the words that name the stage for prepare, where the backend leaves a choice."""
    if len({stage.prepare for stage in backend.stages if stage.prepare is not None}) == 1:
        return []
    return ["--stage", str(read_config(sources[0])["stage"])]


def _prepare_words(backend: Backend, sources: Sequence[Path], asked: _Asked, *, texts: bool) -> list[str]:
    """Return what prepare needs for these recipes: their own words, and a language where the rows name none."""
    words = list(dict.fromkeys(shlex.join(_pair) for source in sources for _pair in _pairs(remark(source, "Prepare"))))
    options = [word for pair in words for word in shlex.split(pair)]
    # The rows of a corpus folder name their languages: transcribe writes them.
    if not texts:
        return options
    # Read from its source, so that init stays without torch.
    job = next((stage.prepare for stage in backend.stages if stage.prepare is not None), None)
    outline = None if job is None else group_of(job)
    if outline is None or _LANGUAGE not in outline.keys:
        if asked.language is not None:
            raise ConfigError(f"Backend {backend.name!r} asks for no language. Leave --language out.")
        return options
    language = asked.language or (None if _names_languages(asked.data) else "auto")
    return options if language is None else [*options, f"--{_LANGUAGE}", language]


def _pairs(words: str | None) -> list[list[str]]:
    split = shlex.split(words or "")
    return [split[number : number + 2] for number in range(0, len(split), 2)]


def _names_languages(data: Path) -> bool:
    """Tell whether the first rows of a corpus that can be used name their languages."""
    from tts_train.corpus import Utterance
    from tts_train.corpus.read import open_corpus

    first = [row for row in islice(open_corpus(data).rows(), _ROWS) if isinstance(row, Utterance)]
    return all(row.language is not None for row in first)


def _sources(backend: Backend, recipe: str | None) -> list[Path]:
    """Return the recipes that are asked for, or those that the backend has for beginners."""
    if recipe is None and not backend.start:
        raise ConfigError(
            f"Backend {backend.name!r} brings no recipes. Start with: tts-train fit --backend {backend.name} --help"
        )
    return [find_recipe(backend.name, name) for name in ([recipe] if recipe else backend.start)]


def _names(sources: list[Path]) -> list[str]:
    """Return the new files' names: ``recipe.yaml``, or one for each stage."""
    stages = [str(read_config(source)["stage"]) for source in sources]
    return ["recipe.yaml"] if len(sources) == 1 else [f"{stage}.yaml" for stage in stages]
