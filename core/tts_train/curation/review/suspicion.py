"""How much a person should look at a row, from 0 to 1, and why, in words."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tts_train.corpus.language import other_language
from tts_train.curation.review.usual import NO_CLUSTER, Usual, is_number, log_rate, rate_group
from tts_train.curation.review.wording import (
    count_letters,
    find_loop,
    made_up,
    plain_phrase,
    spoken_words,
    two_readings,
)
from tts_train.curation.row import ClipRow

KINDS = {
    "no_text": "No text",
    "no_clip": "No sound",
    "not_heard": "Could not be heard",
    "unsure": "Recogniser unsure",
    "disagreement": "Two hypotheses differ",
    "loop": "Words in a loop",
    "made_up": "Phrase that recognisers make up",
    "repeated": "Same text in several clips",
    "fast": "Too much text for the time",
    "slow": "Too little text for the time",
    "short": "Very short text",
    "long": "Very long text",
    "language": "Another language",
    "speaker": "Another speaker",
    "two_readings": "Numbers and abbreviations",
    "finding": "Found by check",
}
"""Kinds of reasons, and what the page calls them."""

SURE = 0.9
"""Confidence from which on nothing is said: nine tokens in ten as sure as can be. Chosen, not measured."""
UNSURE = math.exp(-1.0)
"""Confidence at which Whisper itself calls a decoding failed: its ``logprob_threshold`` of -1."""
OUTLIER = 3.5
"""Robust deviations from which on a value is an outlier: Iglewicz and Hoaglin, How to Detect and Handle Outliers,
1993."""
FAR_OUTLIER = 7.0
"""Twice that: as good as certain."""
OFTEN = 3
"""Clips of one recognised text from which on that is suspicious; two people may well say the same."""
SHORT_LETTERS = 2
LONG_LETTERS = 400
"""15 s, the longest clip that ``corpus slice`` cuts, at 25 letters a second, which is faster than people read."""


@dataclass(frozen=True)
class Suspicious:
    """One reason to look at a row."""

    kind: str
    """One of :data:`KINDS`."""
    weight: float
    """How much it counts, 0 to 1."""
    said: str
    """For a person: a short sentence without its full stop."""


@dataclass(frozen=True)
class Verdict:
    """How much a row should be looked at."""

    suspicion: float
    """0 to 1: reasons count as if each alone were the chance that something is wrong."""
    reasons: tuple[Suspicious, ...]
    """The weightiest first."""
    reviewed: bool
    """Whether a person has looked at it; its suspicion is 0 then."""


def is_reviewed(row: ClipRow) -> bool:
    """Tell whether a person wrote or confirmed the text of a row."""
    return row.facts.get("reviewed") is True or row.text_by == "person"


def second_hypothesis(row: ClipRow) -> str | None:
    """Return what else a recogniser heard, where it says other words than the text; None where nothing does."""
    heard = row.facts.get("hypotheses")
    for each in heard if isinstance(heard, list) else ():
        text = each.get("text") if isinstance(each, dict) else each
        if isinstance(text, str) and text.strip() and spoken_words(text) != spoken_words(row.text):
            return text
    return None


def judge(row: ClipRow, usual: Usual, *, has_clip: bool = True) -> Verdict:
    """Return how much a row should be looked at."""
    # Each look at a row is cheap (text and facts alone), so all are taken: a person wants every reason.
    reasons = [] if has_clip else [Suspicious("no_clip", 1.0, f"{row.audio} is not there")]
    reasons += [*_of_text(row, usual), *_of_recognition(row), *_of_sound(row, usual)]
    reviewed = is_reviewed(row)
    # As if independent, which they are not: what counts is the order, and that more reasons are more suspicious.
    rest = math.prod(1 - reason.weight for reason in reasons)
    ranked = tuple(sorted(reasons, key=lambda reason: -reason.weight))
    return Verdict(0.0 if reviewed else round(1 - rest, 3), ranked, reviewed)


def _of_text(row: ClipRow, usual: Usual) -> Iterator[Suspicious]:
    letters = count_letters(row.text)
    if not letters:
        by = row.facts.get("nothing_heard")
        # Nothing else can be said of such a row, and it is of no use for training as it is.
        yield Suspicious("no_text", 0.95, f"{by} heard nothing in it" if by else "Nothing says what is said")
        return
    if letters <= SHORT_LETTERS:
        yield Suspicious("short", 0.3, f"The text has {letters} letter{'s' if letters > 1 else ''}")
    if letters > LONG_LETTERS:
        yield Suspicious("long", 0.4, f"The text has {letters} letters")
    yield from _of_rate(row, usual)
    yield from _of_repetition(row, usual)
    yield from _of_language(row, usual)
    if found := two_readings(row.text):
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        # Little: the text may be right, and be read in another way than it was said.
        yield Suspicious("two_readings", 0.2, f"May be read in two ways: {', '.join(found[:3])}{more}")


def _of_rate(row: ClipRow, usual: Usual) -> Iterator[Suspicious]:
    rate, spread = log_rate(row), usual.rates.get(rate_group(row))
    if rate is None or spread is None or abs(spread.score(rate)) < OUTLIER:
        return
    weight = _between(abs(spread.score(rate)), OUTLIER, FAR_OUTLIER, least=0.5, most=0.9)
    speed = f"{math.exp(rate):.1f} letters a second, usual are {math.exp(spread.median):.1f}"
    if rate > spread.median:
        yield Suspicious("fast", weight, f"Too much text for {row.seconds:.1f} s: {speed}")
    else:
        yield Suspicious("slow", weight, f"Too little text for {row.seconds:.1f} s: {speed}")


def _of_repetition(row: ClipRow, usual: Usual) -> Iterator[Suspicious]:
    if loop := find_loop(row.text):
        phrase, times = loop
        # Twice may be said; three times in a row hardly.
        yield Suspicious("loop", 0.85 if times > 2 else 0.5, f"“{phrase}” stands {times} times in a row")
    if made_up(row.text):
        # Somebody may have said it, in a video.
        yield Suspicious("made_up", 0.9, "Recognisers write this where nobody speaks")
    elif (count := usual.phrases[plain_phrase(row.text)]) >= OFTEN and (row.text_by or "").startswith("recogniser"):
        yield Suspicious("repeated", 0.4, f"The same text was recognised in {count} clips")


def _of_language(row: ClipRow, usual: Usual) -> Iterator[Suspicious]:
    # Two reasons of one kind may hold: a wrong label, and a text in a third language.
    if usual.one_language and row.language and row.language != usual.language:
        yield Suspicious("language", 0.4, f"Said to be {row.language}; most rows are {usual.language}")
    own = row.language or (usual.language if usual.one_language else None)
    if own and (other := other_language(row.text, {own})):
        yield Suspicious("language", 0.5, f"The text looks like {other}, not {own}")


def _of_recognition(row: ClipRow) -> Iterator[Suspicious]:
    if why := row.facts.get("not_heard"):
        yield Suspicious("not_heard", 0.7, f"No recogniser could hear it: {why}")
    if is_number(row.confidence) and row.confidence < SURE:
        # Below 1 at the worst: a recogniser may be unsure of every word of a clear but unusual text.
        weight = 0.8 * _between(-row.confidence, -SURE, -UNSURE, least=0.0, most=1.0)
        yield Suspicious("unsure", weight, f"The recogniser was unsure: confidence {row.confidence:.2f}")
    other = second_hypothesis(row)
    if other is not None and row.text.strip():
        share = differing_share(row.text, other)
        # Half of the words differ: one of both is nonsense.
        weight = _between(share, 0.0, 0.5, least=0.2, most=0.9)
        yield Suspicious("disagreement", weight, f"A second hypothesis differs in {share:.0%} of the words")


def _of_sound(row: ClipRow, usual: Usual) -> Iterator[Suspicious]:
    yield from _of_voice(row, usual)
    for name in _names(row.facts.get("findings")):
        yield Suspicious("finding", 0.5, f"check --deep found: {name.replace('_', ' ')}")


def _of_voice(row: ClipRow, usual: Usual) -> Iterator[Suspicious]:
    """What ``corpus speakers`` says of a row, one reason of it: they are about the same."""
    likeness, cluster = row.facts.get("speaker_likeness"), row.facts.get("speaker_cluster")
    if other := row.facts.get("speaker_like_other"):
        yield Suspicious("speaker", 0.7, f"Is called {row.speaker} and sounds like {other}")
    elif cluster == NO_CLUSTER:
        yield Suspicious("speaker", 0.5, "The voice is like no other of the corpus")
    elif is_number(cluster) and int(cluster) != usual.clusters.get(row.speaker):
        yield Suspicious("speaker", 0.5, "The voice is another than in most clips of this speaker")
    elif usual.likeness and is_number(likeness) and usual.likeness.score(likeness) < -OUTLIER:
        who = f"sounds little like {row.speaker}" if row.speaker else "sounds little like the others"
        yield Suspicious("speaker", 0.5, f"The voice {who}: likeness {likeness:.2f}")


def differing_share(one: str, other: str) -> float:
    """Return which share of the words of two texts the other lacks, 0 to 1; characters where there are no words."""
    return 1 - difflib.SequenceMatcher(None, spoken_words(one), spoken_words(other), autojunk=False).ratio()


def _names(findings: object) -> Iterable[str]:
    for each in findings if isinstance(findings, (list, tuple)) else ():
        name = each.get("kind") if isinstance(each, dict) else each
        if isinstance(name, str):
            yield name


def _between(value: float, low: float, high: float, *, least: float, most: float) -> float:
    """Return a weight that rises evenly with a value, from ``least`` at ``low`` to ``most`` at ``high``."""
    share = min(max((value - low) / (high - low), 0.0), 1.0)
    return round(least + (most - least) * share, 3)
