"""Every judge of ``tts-train check --deep``, and by it every kind of finding: the one list that a new one joins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tts_train.contract.backend import resolve
from tts_train.findings.measure import FindingKind, Judge, Measure

JUDGES: tuple[str, ...] = (
    "tts_train.findings.text.agreement:AgreementJudge",
    "tts_train.findings.text.recognised:RecognisedJudge",
    "tts_train.findings.text.edges:CutJudge",
    "tts_train.findings.text.wording:SpeakingRateJudge",
    "tts_train.findings.text.wording:OtherLanguageJudge",
    "tts_train.findings.text.wording:DuplicateTextJudge",
    "tts_train.findings.sound.duplicates:DuplicateJudge",
    "tts_train.findings.sound.voice:VoiceJudge",
    "tts_train.findings.sound.spectrum:SpectrumJudge",
    "tts_train.findings.sound.envelope:EnvelopeJudge",
    "tts_train.findings.sound.levels:LevelJudge",
    "tts_train.findings.sound.listeners:OpinionJudge",
)
"""In the order in which findings are told: what spoils a voice most comes first."""


@dataclass(frozen=True)
class Catalogue:
    """Judges, and what they need."""

    judges: tuple[Judge, ...]
    given: Mapping[str, Measure] = field(default_factory=dict)
    """By name: measures that were made with something the user named, in place of those that judges would make."""

    @classmethod
    def load(cls, names: Iterable[str] = JUDGES, given: Iterable[Measure] = ()) -> Catalogue:
        """Import the judges; nothing heavy is loaded with them."""
        found: list[type[Judge]] = [resolve(name) for name in names]
        return cls(tuple(judge() for judge in found), {measure.name: measure for measure in given})

    @cached_property
    def kinds(self) -> dict[str, FindingKind]:
        """Every kind by name."""
        return {kind.name: kind for judge in self.judges for kind in judge.kinds}

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """Every measure that a judge needs, once."""
        return {each.name: self.given.get(each.name) or each() for judge in self.judges for each in judge.measures}

    def missing(self) -> dict[str, str]:
        """Return what to install, by name of the measure that needs it."""
        found = {name: measure.missing() for name, measure in self.measures.items()}
        return {name: why for name, why in found.items() if why}

    def not_measured(self) -> dict[str, str]:
        """Return why, by name of each kind that cannot be looked for on this machine."""
        missing = self.missing()
        told: dict[str, str] = {}
        for judge in self.judges:
            whys = [missing[each.name] for each in judge.measures if each.name in missing]
            told |= {kind.name: "; ".join(dict.fromkeys(whys)) for kind in judge.kinds if whys}
        return told

    def working(self) -> tuple[Judge, ...]:
        """Return the judges whose measures can all be taken here."""
        out = self.not_measured()
        return tuple(judge for judge in self.judges if not any(kind.name in out for kind in judge.kinds))
