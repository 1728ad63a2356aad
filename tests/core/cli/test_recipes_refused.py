"""What is wrong in a recipe is said in a line with exit code 2: each leaf of the shipped ones is replaced by nonsense.

The whole table is tried with ``TTS_TRAIN_FUZZ=all``; otherwise a sample of it, the same each time.
"""

from __future__ import annotations

import copy
import os
import random

import pytest
import yaml

from tts_train.cli import main
from tts_train.configuration.early import _all_keys, check_early, outline_of
from tts_train.configuration.select import select
from tts_train.errors import ConfigError
from tts_train.recipes import every_recipe
from tts_train.training.parser import TrainingParser

WRONG = [
    *("abc", "", -1, 0, 1, 0.5, True, None, [], {}, ["a"], {"a": 1}, -0.5, 10**6),
    *(2**70, -(2**70), float("inf"), float("nan"), 1e308, "1e309", "${nowhere.at_all}", "${oc.env:TTS_TRAIN_NOT_SET}"),
    *("${", "${nope:1}", "../..", "\x00", "é" * 300),
]
SAMPLE = {True: 80, False: 8}
"""How many are tried: until torch would be imported, and until data are read."""


def leaves(settings, above=()):
    for key, value in settings.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from leaves(value, (*above, key))


def cases(*, early):
    table = []
    for path in every_recipe():
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        table += [(path, settings, key, wrong) for key in leaves(settings) for wrong in WRONG]
    return table if os.environ.get("TTS_TRAIN_FUZZ") == "all" else random.Random(10).sample(table, SAMPLE[early])


def replaced(settings, key, wrong):
    settings = copy.deepcopy(settings)
    section = settings
    for name in key[:-1]:
        section = section[name]
    section[key[-1]] = wrong
    return yaml.safe_dump(settings, allow_unicode=True)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_no_value_in_a_recipe_crashes_what_is_checked_first(tmp_path):
    file = tmp_path / "recipe.yaml"
    refused = 0
    for _, settings, key, wrong in cases(early=True):
        file.write_text(replaced(settings, key, wrong))
        try:
            selection = select(["-c", str(file)])
            check_early("fit", selection.load(), selection)
        except ConfigError as error:
            refused += str(file) in str(error)
    assert refused > SAMPLE[True] / 2


def test_no_value_in_a_recipe_is_an_internal_error(capsys, tmp_path):
    file = tmp_path / "recipe.yaml"
    failed = []
    for path, settings, key, wrong in cases(early=False):
        file.write_text(replaced(settings, key, wrong))
        # The folder of data is missing, so that nothing is trained; whatever is said before is of interest.
        words = ["--run_dir", "run", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
        code = main(["fit", "-c", str(file), *words])
        said = capsys.readouterr().err.strip().splitlines()
        if code not in (2, 5) or "Traceback" in " ".join(said) or not said or len(said[-1]) > 900:
            failed.append(f"{path.stem} {'.'.join(key)}: {wrong!r}: exit {code}: {' / '.join(said[-2:])}")
    assert not failed, "\n".join(failed)


NO_RECIPES = {
    "a page": (b"# Voices\n\nSome *text*: with [a link](x), and: more\n  of: it\n", "line 3: not a recipe's YAML"),
    "a list": (b"- backend: toy\n", "line 1 holds a list instead of settings"),
    "a word": (b"\n\nhello\n", "line 3 holds plain text instead of settings"),
    "nothing": (b"# all is commented out\n", "is empty. A recipe is a text file with lines such as"),
    "a tab": (b"backend: toy\nmodel:\n\tbins: 3\n", "line 3: not a recipe's YAML (a tab; indent with spaces)"),
    "a key twice": (
        b"backend: toy\nmodel:\n  bins: 3\n  bins: 4\n",
        "line 4: bins is given a second time (first in line 3)",
    ),
    "latin-1": ("backend: toy\n# f\xfcr\n".encode("latin-1"), "line 2: not UTF-8"),
    "binary": (b"\x7fELF\x02\x00\x00", "is a binary file"),
    "a number for a name": (b"backend: toy\n7: 3\n", "line 2: a setting's name must be a word, not 7"),
    "an object": (b"model: !!python/object/apply:os.getcwd []\n", "line 1: not a recipe's YAML"),
    "a circle": (b"a: &a [*a]\n", "repeats itself by aliases"),
    "many times many": (
        b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (n + 1, n + 1, *[n] * 8) for n in range(97, 103)),
        "repeats itself by aliases",
    ),
    "deep": (b"a: " + b"[" * 40, "nested too deeply"),
    "huge": (b"# " + b"x" * 2_000_000, "has 2.0 MB"),
    "no such name": (
        b"backend: toy\nmodel:\n  bnis: 3\n",
        "line 3: there is no setting model.bnis. Did you mean bins?",
    ),
    "no such section": (b"backend: toy\nmodle:\n  bins: 3\n", "line 2: there is no setting modle. Did you mean model?"),
    "a number for a section": (b"backend: toy\ntrainer: 3\n", "line 2: trainer takes a section"),
    "an empty section": (b"backend: toy\nmodel:\n", "model takes a section"),
    "a list for a section": (b"backend: toy\ncheckpoint: []\n", "checkpoint takes a section"),
    "text for a number": (
        b"backend: toy\nmodel:\n  bins: many\n",
        "line 3: model.bins takes a whole number, and many was given",
    ),
    "a seed": (b"backend: toy\nseed_everything: -1\n", "takes a whole number from 0 to 4294967295, and -1 was given"),
    "a variable": (
        b"backend: toy\nmodel:\n  bins: ${oc.env:TTS_TRAIN_NOT_SET}\n",
        "the environment variable TTS_TRAIN_NOT_SET",
    ),
    "a backend": (b"backend: [toy]\n", "line 1: backend takes one of"),
}


@pytest.mark.parametrize("what", NO_RECIPES)
def test_a_file_that_is_no_recipe_is_refused_by_its_line(what, capsys, tmp_path):
    content, expected = NO_RECIPES[what]
    (tmp_path / "some.yaml").write_bytes(content)
    for verb in ("fit", "plan"):
        assert main([verb, "-c", "some.yaml"]) == 2
        said = capsys.readouterr().err
        assert "some.yaml" in said
        assert expected in said
        assert said.count("\n") == 1


REFERENCES = {
    "${model.nothing}": "--model.bins refers to ${model.nothing}, and there is no such setting",
    "${model.width}": "refers to itself",
    "${model.bins}": "--model.bins refers to itself by ${model.bins}",
    "x${model}": "--model.bins refers to itself by ${model}",
    "${": "holds a reference that cannot be read",
    "${env:HOME}": "Unsupported interpolation type env",
}


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_reference_that_cannot_be_resolved_is_named(reference, capsys):
    assert main(["fit", "--backend", "toy", "--model.bins", reference, "--model.width", "${model.bins}"]) == 2
    said = capsys.readouterr().err
    assert REFERENCES[reference] in said
    assert said.count("\n") == 1


def test_what_the_sources_say_is_what_the_parser_takes():
    """The names that are checked before torch is imported are the parser's own, stage by stage."""
    stages = {}
    for path in every_recipe():
        selection = select(["-c", str(path)])
        stages[selection.backend, selection.stage] = selection
    for selection in stages.values():
        chosen = selection.load()
        outline = set(_all_keys(outline_of(chosen)))
        parser = TrainingParser("fit", chosen, selection.rest).parser
        known = {action.dest for action in parser._actions if not action.dest.endswith("help")}
        linked = {"data.seed", *chosen.stage.links.values(), *chosen.stage.links}
        assert known - outline <= {"print_shtab"}, selection
        assert outline - known - linked <= {"help", "plugins", "config", "print_config", "debug"}, selection
