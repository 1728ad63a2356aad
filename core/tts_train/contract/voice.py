"""What a module offers so that it can be heard while it trains: passages to speak, and what came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tts_train.sound import Sound


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text that is spoken again and again."""

    name: str
    """File name without an ending, unique among a run's passages."""
    text: str
    id: str | None = None
    """Id of the utterance in the corpus, if it is one."""
    speaker: str | None = None
    language: str | None = None
    tokens: float | None = None
    """Tokens of sound that it should take: those of its recording, or what a text as long as this usually takes."""
    recording: Sound | None = None
    """How it was said, if that is known."""
    ceiling: Sound | None = None
    """What the codec leaves of the recording: no model behind it sounds better."""


@dataclass(frozen=True, kw_only=True)
class Uttered:
    """What a model said."""

    sound: Sound
    """May be empty."""
    tokens: Sequence[int]
    """Tokens of sound, in order."""
    ended: bool
    """Whether the model ended it; False where it was cut off."""


class SampleVoice(Protocol):
    """Speaks with the weights as they are now; kept by the callback from one time to the next.

    A voice derives from it, or has all of its methods.
    """

    @property
    def tokens_per_second(self) -> float:
        """Tokens of a second of sound."""

    def held_out(self, count: int) -> Sequence[Passage]:
        """Return up to ``count`` utterances that are not trained on, always the same."""

    def passage(self, name: str, text: str) -> Passage:
        """Return a text of the user's as a passage.

        Raises:
            TTSTrainError: if it cannot be spoken.
        """

    def speak(self, passage: Passage, *, seed: int, max_tokens: int) -> Uttered:
        """Say a passage. All chance comes from ``seed``, and the network is in evaluation mode.

        Raises:
            TTSTrainError: if the network gives nothing that can be used.
        """

    def speak_many(
        self, passages: Sequence[Passage], *, seeds: Sequence[int], max_tokens: Sequence[int]
    ) -> Sequence[Uttered]:
        """Say passages, each as :meth:`speak` says it, one after the other.

        A voice that says several in the time of the longest does so here, in parts where memory has no room for all.

        Raises:
            TTSTrainError: if the network gives nothing that can be used.
            torch.OutOfMemoryError: if there is no memory for a single one.
        """
        each = zip(passages, seeds, max_tokens, strict=True)
        return [self.speak(passage, seed=seed, max_tokens=limit) for passage, seed, limit in each]


def take_turns(languages: Sequence[str | None], count: int) -> list[int]:
    """Return up to ``count`` places in a list of rows: the first of each language, then the second, and so on."""
    seen: dict[str | None, int] = {}
    ranks = []
    for place, language in enumerate(languages):
        seen[language] = seen.get(language, 0) + 1
        # Sorted by the turn and then by the place: the first of each language comes before the second of any.
        ranks.append((seen[language], place))
    return [place for _, place in sorted(ranks)[:count]]
