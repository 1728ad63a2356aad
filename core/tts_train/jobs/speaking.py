"""The words of commands that let sources speak many texts: their own options beside those of the backend's voice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

from tts_train.configuration.arguments import JobParser, read_help_texts, with_underscores
from tts_train.configuration.early import check_job
from tts_train.configuration.select import Chosen
from tts_train.configuration.values import check_numbers
from tts_train.contract.backend import resolve
from tts_train.contract.jobs import SynthJob
from tts_train.errors import ConfigError

# Fields of a synth job that every text has its own of.
_SPOKEN = {"source", "text", "out"}
Options = TypeVar("Options")


@dataclass(frozen=True)
class SpeakingWords(Generic[Options]):
    """What the words of such a command say."""

    sources: Sequence[str]
    options: Options
    voice: Mapping[str, Any]
    """Options of the job that speaks."""
    job_class: type[SynthJob]

    @classmethod
    def read(
        cls,
        verb: str,
        chosen: Chosen,
        words: Sequence[str],
        own: type[Options],
        *,
        summary: str,
        sources: str,
        most: str,
    ) -> SpeakingWords[Options]:
        """Read the words of a command.

        Args:
            verb: The command.
            chosen: The backend and stage that it is about.
            words: What stands behind the verb.
            own: Dataclass whose fields are the command's own options; they stand before those of the voice.
            summary: What the command does.
            sources: Help of the words that are no options.
            most: How many there may be: ``+``, or ``1``.

        Raises:
            ConfigError: for an option that there is not, or a value that it does not take.
        """
        check_job(verb, chosen.stage.synth, words, chosen, also=own)
        if chosen.stage.synth is None:
            raise ConfigError(f"Stage {chosen.stage.name!r} of backend {chosen.backend.name!r} has no voice to {verb}.")
        job_class: type[SynthJob] = resolve(chosen.stage.synth)
        read_help_texts(words)
        names = {option.name for option in fields(own)}  # type: ignore[arg-type]
        parser = JobParser(prog=f"tts-train {verb}", description=summary)
        parser.add_argument("sources", nargs="+" if most == "+" else int(most), help=sources)
        # Options of the command win over those of the voice that have the same name, such as a language.
        parser.add_class_arguments(own, None)
        parser.add_class_arguments(job_class, None, skip=_SPOKEN | names)
        parser.add_argument("--json", action="store_true", help="print the report as one JSON object, last on stdout")
        values = parser.instantiate(parser.parse_args(with_underscores(list(words)))).as_dict()
        check_numbers({name: value for name, value in values.items() if name != "sources"})
        del values["json"]
        given = list(map(str, values.pop("sources")))
        return cls(given, own(**{name: values.pop(name) for name in names}), values, job_class)
