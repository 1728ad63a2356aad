"""How long a take is against its recording, and how much silence stands before and behind the speech."""

from __future__ import annotations

from collections.abc import Mapping

from tts_train.contract.metric import Figure, Metric, Take
from tts_train.scoring.signal.silence import speech_span


class Duration(Metric):
    """Length of the speech over that of the recording's speech, silence before and behind left out of both."""

    name = "duration"
    figures = (
        Figure(
            name="duration_ratio",
            unit="",
            better="one",
            summary="length of the speech over that of the recording",
        ),
    )
    wants = frozenset({"reference"})

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the ratio; nothing if there is no speech in the recording."""
        assert take.reference is not None
        (begin, end), (reference_begin, reference_end) = speech_span(take.sound), speech_span(take.reference)
        due = reference_end - reference_begin
        return {"duration_ratio": (end - begin) / due} if due else {}


class Silence(Metric):
    """Seconds of silence at both ends; a take without speech is silent as long as it is."""

    name = "silence"
    figures = (
        Figure(name="leading_silence", unit="s", better="neither", summary="silence before the speech"),
        Figure(name="trailing_silence", unit="s", better="neither", summary="silence behind the speech"),
    )

    def measure(self, take: Take) -> Mapping[str, float]:
        """Return the silence before and behind."""
        begin, end = speech_span(take.sound)
        if end <= begin:
            return {"leading_silence": take.sound.seconds, "trailing_silence": 0.0}
        return {"leading_silence": begin, "trailing_silence": take.sound.seconds - end}
