"""Which stretches of speech become one utterance: the cheapest way through all pauses, found exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tts_train.curation.speech.edges import SECOND, SpeechStretch

TOO_SHORT, TOO_LONG = "too_short", "too_long"
_FAR = 1e9


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """What an utterance may be, in seconds."""

    least: float
    most: float
    margin: float
    """Quiet that is kept at head and tail."""


@dataclass(frozen=True, kw_only=True)
class SpeechGroup:
    """Stretches of speech that are one utterance, or would be if they fitted; positions are counted in levels."""

    start: int
    end: int
    fate: str = ""
    """Why it becomes no row; empty if it does."""
    text: str = ""
    speaker: str | None = None


def group(spoken: Sequence[SpeechStretch], lengths: Lengths) -> list[SpeechGroup]:
    """Return the utterances of a recording, and what is too short or too long for one, in order.

    The costs were chosen, not measured; a cut at a pause of 0.85 s costs 1. A cut and none cost the same at a pause
    of 0.66 s; a longer pause nearby is cut at instead, and speech is lost only where it stands alone.
    """
    # best[n]: the least cost of the first n stretches; choice[n]: where the last utterance of them begins.
    best, choice = [0.0], [0]
    inside = [0.0]
    for number in range(1, len(spoken)):
        inside.append(inside[-1] + _inside_cost(_pause(spoken, number)))
    for end in range(1, len(spoken) + 1):
        options = list(_options(spoken, lengths, end, best, inside))
        cost, start = min(options)
        best.append(cost)
        choice.append(start)
    found: list[SpeechGroup] = []
    # Back from the end along the choices.
    end = len(spoken)
    while end:
        start = choice[end]
        found.append(SpeechGroup(start=spoken[start].start, end=spoken[end - 1].end))
        end = start
    return judged(found[::-1], lengths)


def judged(groups: Sequence[SpeechGroup], lengths: Lengths) -> list[SpeechGroup]:
    """Return groups with their fates: speech that is too long, or too short with the margins that it has room for."""
    found: list[SpeechGroup] = []
    for number, one in enumerate(groups):
        before = (one.start - groups[number - 1].end) / SECOND if number else _FAR
        after = (groups[number + 1].start - one.end) / SECOND if number + 1 < len(groups) else _FAR
        found.append(replace(one, fate=fate_of((one.end - one.start) / SECOND, lengths, before, after)))
    return found


def fate_of(seconds: float, lengths: Lengths, before: float = _FAR, after: float = _FAR) -> str:
    """Return why so many seconds of speech become no row, empty if they do.

    Args:
        seconds: from the first word to the last.
        lengths: what an utterance may be.
        before: seconds of pause before it, which it shares with its neighbour.
        after: behind it.
    """
    if seconds > lengths.most:
        return TOO_LONG
    margins = min(lengths.margin, before / 2) + min(lengths.margin, after / 2)
    return TOO_SHORT if seconds + margins < lengths.least else ""


def _options(
    spoken: Sequence[SpeechStretch], lengths: Lengths, end: int, best: list[float], inside: list[float]
) -> list[tuple[float, int]]:
    """Return (cost, first) of all utterances that end with the stretch before ``end``."""
    found: list[tuple[float, int]] = []
    after = _pause(spoken, end)
    # Backwards: utterances grow, and past the longest there are no more.
    for start in range(end - 1, -1, -1):
        seconds = (spoken[end - 1].end - spoken[start].start) / SECOND
        # What has no pause stays whole, however long it is, and becomes no row.
        if seconds > lengths.most and start < end - 1:
            break
        cost = best[start] + inside[end - 1] - inside[start]
        cost += _cut_cost(_pause(spoken, start)) if start else 0.0
        if fate_of(seconds, lengths, _pause(spoken, start), after) == TOO_SHORT:
            cost += _LOST + 2 * seconds
        found.append((cost, start))
    return found


def _pause(spoken: Sequence[SpeechStretch], number: int) -> float:
    """Return the seconds before a stretch; before the first and behind the last there is room for any margin."""
    if not 0 < number < len(spoken):
        return _FAR
    return (spoken[number].start - spoken[number - 1].end) / SECOND


# A lost word costs as much as keeping a pause of 1.1 s inside of an utterance.
_LOST = 3.0


def _inside_cost(pause: float) -> float:
    """A voice that learns long pauses in mid-sentence makes them: dearer by the square of their length."""
    return (pause / 0.6) ** 2


def _cut_cost(pause: float) -> float:
    """Cutting at short pauses is dear: they lie within sentences, or are closures within words."""
    return 1 / (0.15 + pause)
