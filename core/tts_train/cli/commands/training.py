"""``fit``, ``validate`` and ``test``: understands the words and says no, before torch is imported."""

from __future__ import annotations

from tts_train.cli.helping import load
from tts_train.cli.importing import first_imports
from tts_train.cli.output import print_report
from tts_train.configuration.arguments import JSON_FLAG
from tts_train.configuration.early import check_early
from tts_train.configuration.select import select
from tts_train.configuration.words import understood


def run(verb: str, words: list[str]) -> int:
    """Check the words, train or score what they name, and print how it went."""
    as_json = JSON_FLAG in words
    # --json is the command's: a run has no such option.
    selection = select(understood(verb, [word for word in words if word != JSON_FLAG]))
    chosen = load(selection, verb)
    if not set(words) & {"-h", "--help"}:
        check_early(verb, chosen, selection)
    with first_imports():
        from tts_train.parallel.together import leads
        from tts_train.training.run import Training

        chosen.plugins.model(chosen.stage)
        chosen.plugins.data(chosen.stage)
    training = Training.of(chosen, selection)
    result = training.fit() if verb == "fit" else training.score(verb)
    # Processes beside the first print nothing, so that --json is one object.
    if leads():
        print_report(result.as_dict(), as_json=as_json)
    return 0
