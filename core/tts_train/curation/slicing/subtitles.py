"""Subtitles beside a recording: SubRip, WebVTT, labels of Audacity and TextGrids of Praat, as cues with plain words."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tts_train.corpus.audio.containers import AudioRejected
from tts_train.corpus.language import base_language, language_code
from tts_train.corpus.rows.names import fold, is_audio
from tts_train.errors import ConfigError, MissingExtraError
from tts_train.progress import write_line

SUFFIXES = (".srt", ".vtt", ".textgrid", ".txt")
"""In the order in which they are preferred."""

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")
_LABEL = re.compile(r"^\s*(-?\d+(?:[.,]\d+)?)\t(-?\d+(?:[.,]\d+)?)(?:\t(.*))?$")
# ASS tags, which pysubs2 also writes for <i>; then HTML, WebVTT classes and the times inside of a cue.
_STYLE = re.compile(r"\{\\[^}]*\}|<[^<>]*>")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>", re.IGNORECASE)
_LABELLED = re.compile(r"^[-–—\s]*>*\s*([^\W\d_][^\W_]*(?:[ .'-]{1,2}[^\W_]+){0,2})\s?:\s+(?=\S)")
_SOUNDS = re.compile(r"\[[^\]]*\]|【[^】]*】|\*[^*]+\*|^\s*[-–]?\s*\([^)]*\)|\([^)]*\)\s*$")
_LINE_WORDS = 3
_NOTES = re.compile(r"[♪♫♬#]")


class Cue(NamedTuple):
    """One entry of a subtitle file."""

    number: int
    """As it stands in the file, from 1."""
    start: float
    """Seconds."""
    end: float
    text: str
    speaker: str | None = None


@dataclass(frozen=True, kw_only=True)
class Subtitles:
    """The cues of a file, in order of time, and what was odd about the file."""

    file: Path
    language: str | None
    cues: list[Cue] = field(default_factory=list)
    odd: dict[str, list[int]] = field(default_factory=dict)
    """Numbers of cues by what is odd about them."""


class SubtitleFinder:
    """Finds the subtitle files that lie beside recordings.

    Args:
        language: that is spoken, if it is known.
    """

    def __init__(self, language: str | None) -> None:
        self._language = language
        # Once for a folder: one of ten thousand recordings would be listed ten thousand times.
        self._folders: dict[Path, dict[str, list[tuple[str | None, Path]]]] = {}

    def find(self, recording: Path) -> tuple[Path, str | None] | None:
        """Return the file beside a recording, and the language that its name says.

        Raises:
            ConfigError: if there are several in different languages, and none of them is chosen.
        """
        found = self._beside(recording)
        # A name that says the language that was asked for is better than one that says none.
        for name, file in found.items():
            if self._language and name and _same(name, self._language):
                return file, name
        if not found or None in found:
            return (found[None], None) if found else None
        if self._language:
            names = ", ".join(map(str, found))
            write_line(f"{recording.name}: subtitles in {names} are not used, for {self._language} is spoken.")
            return None
        if len(found) > 1:
            raise ConfigError(
                f"{recording} has subtitles in {', '.join(map(str, found))}. Say which language is spoken in it with "
                "--language, or leave them out with --subtitles false."
            )
        return next((file, name) for name, file in found.items())

    def _beside(self, recording: Path) -> dict[str | None, Path]:
        """Return the files of a recording, by the languages that their names say."""
        if recording.parent not in self._folders:
            self._folders[recording.parent] = _listed(recording.parent)
        found: dict[str | None, Path] = {}
        for stem in (recording.stem, recording.name):
            for name, file in self._folders[recording.parent].get(fold(stem), []):
                found.setdefault(name, file)
        return found


def read_subtitles(file: Path, language: str | None, seconds: float) -> Subtitles:
    """Read a subtitle file; cues that cannot be used are left out, and named.

    Args:
        file: what :class:`SubtitleFinder` found.
        language: that its name says.
        seconds: length of the recording.

    Raises:
        AudioRejected: ``bad_subtitles``.
        MissingExtraError: if the library that reads them is not installed.
    """
    odd: defaultdict[str, list[int]] = defaultdict(list)
    found: list[Cue] = []
    raw = list(_raw(file))
    # pysubs2 skips what it cannot read; a file of which it reads nothing is another thing than one without words.
    if not raw:
        raise AudioRejected("bad_subtitles", f"{file.name} has no cue that can be read")
    for cue in raw:
        # Against the one before in the file: one early cue does not make all that follow late.
        if found and cue.start < found[-1].start:
            odd["out_of_order"].append(cue.number)
        if (kept := _usable(cue, seconds, odd)) is not None:
            found.append(kept)
    cues = list(_without_repeats(sorted(found, key=lambda cue: (cue.start, cue.number)), odd))
    return Subtitles(file=file, language=language, cues=cues, odd=dict(odd))


def _usable(cue: Cue, seconds: float, odd: defaultdict[str, list[int]]) -> Cue | None:
    """Return a cue with plain words, or None if nothing of it can be used."""
    cue = _plain(cue)
    wrong = ""
    if not any(letter.isalnum() for letter in cue.text):
        wrong = "no_words"
    elif cue.end <= cue.start:
        wrong = "no_length"
    elif cue.start >= seconds or cue.end <= 0:
        wrong = "past_end"
    if wrong:
        odd[wrong].append(cue.number)
        return None
    # Writers round: a tenth of a second beyond the end is nothing.
    if cue.end > seconds + 0.1:
        odd["shortened"].append(cue.number)
    return cue._replace(start=max(0.0, cue.start), end=min(cue.end, seconds))


def _plain(cue: Cue) -> Cue:
    """Take styles, sounds and the speaker's name out of the text."""
    speaker, text = cue.speaker, cue.text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ")
    # Before tags are taken out: the speaker is in one.
    if voice := _VOICE.search(text):
        speaker = html.unescape(voice[1]).strip()
    text = html.unescape(_STYLE.sub("", text))
    # Songs are between notes, and are no speech.
    text = "" if _NOTES.match(text.strip()) else _SOUNDS.sub(" ", text)
    lines = []
    for line in text.splitlines():
        # Only capitals: "Note: ..." is said, "ANNA: ..." is not. Scripts without capitals have no such names.
        if (label := _LABELLED.match(line)) and label[1].isupper():
            speaker, line = label[1].strip(), line[label.end() :]
        # A dash begins the words of another speaker, who has no name.
        lines.append(re.sub(r"^\s*[-–—]\s+", "", line))
    return cue._replace(text=" ".join(" ".join(lines).split()), speaker=speaker)


def _without_repeats(cues: Iterable[Cue], odd: defaultdict[str, list[int]]) -> Iterator[Cue]:
    """Leave out words that the cue before had: captions that roll up show each line twice or more."""
    last = None
    for cue in cues:
        # Within a tenth of a second: the same words again after a pause were said twice.
        shared = _shared(last.text, cue.text) if last and cue.start - last.end < 0.1 else 0
        last = cue
        if shared:
            odd["repeated"].append(cue.number)
            cue = cue._replace(text=" ".join(cue.text.split()[shared:]))
        if cue.text:
            yield cue


def _shared(before: str, after: str) -> int:
    """Return how many words at the end of a cue the next one begins with: all of them, or a line of some words."""
    old, new = before.split(), after.split()
    for count in range(min(len(old), len(new)), 0, -1):
        # One or two words may have been said again: "No." and "No, wait."
        if old[-count:] == new[:count] and (count == len(old) or count >= _LINE_WORDS):
            return count
    return 0


def _raw(file: Path) -> Iterator[Cue]:
    """Yield the entries as they stand in the file."""
    suffix = file.suffix.lower()
    if suffix == ".txt":
        yield from _audacity(_text(file))
        return
    if suffix == ".textgrid":
        yield from _text_grid(file)
        return
    try:
        import pysubs2
    except ImportError:
        raise MissingExtraError(f"Reading {file.name}", "corpus") from None
    text = _cues_alone(_text(file)) if suffix == ".vtt" else _text(file)
    try:
        events = pysubs2.SSAFile.from_string(text, format_=suffix[1:], keep_unknown_html_tags=True)
    except (pysubs2.Pysubs2Error, ValueError) as error:
        raise AudioRejected("bad_subtitles", f"{file.name}: {error}") from None
    for number, event in enumerate(events, 1):
        yield Cue(number, event.start / 1000, event.end / 1000, event.text)


def _cues_alone(text: str) -> str:
    """Return WebVTT without comments, styles and names of cues, all of which pysubs2 takes for words of the cue before.

    By the standard of W3C a cue ends at the first empty line, and its times stand in its first or second line.
    """
    blocks = re.split(r"\n[ \t]*(?:\n[ \t]*)+", text.replace("\r\n", "\n").replace("\r", "\n"))
    cues = [block[block.rfind("\n", 0, block.index("-->")) + 1 :] for block in blocks if "-->" in block]
    return "WEBVTT\n\n" + "\n\n".join(cues) + "\n"


def _audacity(text: str) -> Iterator[Cue]:
    """Labels are (start, end, text) between tabs; a line that begins with a backslash holds frequencies."""
    matches = [_LABEL.match(line) for line in text.splitlines() if line.strip() and not line.startswith("\\")]
    for number, match in enumerate(filter(None, matches), 1):
        # Audacity writes decimals as the system does.
        start, end = (float(match[part].replace(",", ".")) for part in (1, 2))
        yield Cue(number, start, end, match[3] or "")


def _text_grid(file: Path) -> Iterator[Cue]:
    try:
        from praatio import textgrid
        from praatio.utilities.errors import PraatioException
    except ImportError:
        raise MissingExtraError(f"Reading {file.name}", "corpus") from None
    try:
        grid = textgrid.openTextgrid(str(file), includeEmptyIntervals=False, reportingMode="silence")
    except PraatioException as error:
        raise AudioRejected("bad_subtitles", f"{file.name}: {error}") from None
    # praatio looks at no file before it counts its lines.
    except (ValueError, IndexError, KeyError, UnicodeError):
        raise AudioRejected("bad_subtitles", f"{file.name} is no TextGrid that Praat wrote") from None
    tiers = [tier for tier in grid.tiers if isinstance(tier, textgrid.IntervalTier) and tier.entries]
    if not tiers:
        return
    # Sentences, not the words and sounds below them: the tier whose entries have the most letters each.
    best = max(tiers, key=lambda tier: sum(len(one.label) for one in tier.entries) / len(tier.entries))
    for number, one in enumerate(best.entries, 1):
        yield Cue(number, float(one.start), float(one.end), str(one.label))


def _text(file: Path) -> str:
    """Return the text of a file, whatever its coding is; old subtitles are seldom UTF-8."""
    data = file.read_bytes()
    # Windows' editors write UTF-16 with its mark, which is no valid UTF-8.
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        best = from_bytes(data).best()
        if best is None:
            raise AudioRejected("bad_subtitles", f"{file.name} is in no coding of text; write it as UTF-8") from None
        return str(best)


def _listed(folder: Path) -> dict[str, list[tuple[str | None, Path]]]:
    """Return the subtitle files of a folder with their languages, by what may be a recording's name."""
    found: defaultdict[str, list[tuple[str | None, Path]]] = defaultdict(list)
    # The most common format first, so that the first of each language is taken.
    for file in sorted(folder.iterdir(), key=_preference):
        if file.suffix.lower() not in SUFFIXES or not file.is_file() or not _is_labels(file):
            continue
        found[fold(file.stem)].append((None, file))
        stem, _, middle = file.stem.rpartition(".")
        # talk.wav.srt belongs to talk.wav, and wav is no language.
        if stem and _LANGUAGE.fullmatch(middle) and not is_audio(file.stem):
            found[fold(stem)].append((_named(middle), file))
    return dict(found)


def _is_labels(file: Path) -> bool:
    """Tell labels of Audacity from the text of a recording, which has the same suffix."""
    if file.suffix.lower() != ".txt":
        return True
    # The first line tells: number, tab, number. A text that begins so is no sentence.
    with file.open("rb") as opened:
        lines = opened.read(4096).decode("utf-8-sig", "replace").splitlines()
    return bool(lines) and _LABEL.match(lines[0]) is not None


def _preference(file: Path) -> tuple[int, str]:
    suffix = file.suffix.lower()
    return (SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES), file.name)


def _named(middle: str) -> str:
    """Return the language that a file's name says: ``en`` of ``eng``, as rows and recognisers name it."""
    whole = middle.lower()
    # With a country the name says more than its code.
    return whole if re.search("[-_]", whole) else language_code(whole) or whole


def _same(name: str, language: str) -> bool:
    """``en-US`` is English, too."""
    return base_language(name) == base_language(language)
