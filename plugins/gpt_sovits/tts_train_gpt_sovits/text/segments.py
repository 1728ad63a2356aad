"""Cuts mixed text into pieces of one language each, by script; the row's language decides what is ambiguous."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from tts_train_gpt_sovits.text.rejected import TextRejected
from tts_train_gpt_sovits.text.scripts import Script, script_of

_WIDE = {code: code - 0xFEE0 for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
_WIDE |= {
    ord("％"): ord("%"),
    ord("￥"): ord("¥"),
    ord("＄"): ord("$"),
    ord("\u00a0"): ord(" "),
    ord("\u3000"): ord(" "),
}
# After a number these are read in the row's language: 5kg in a Chinese row is no English word, iPhone5s is.
_UNIT = re.compile(r"(?<![A-Za-z\d.])\d[\d.]*( ?(?:km/h|kg|km|cm|mm|ml|m²|m2|m³|m3|db|[mgsh]))(?![A-Za-z])")
_HALF_KANA = ("\uff66", "\uff9d")


@dataclass(frozen=True)
class Segment:
    """A stretch of text in one language."""

    language: str
    text: str


def segments(text: str, language: str) -> list[Segment]:
    """Cut `text` of a row in `language` into pieces of one language.

    Latin letters are en, kana ja, Hangul ko, whatever the row. Han is read as the row's language says; in an en or ko
    row it is ja if the text has kana, else zh. Digits belong to the row's language; marks and spaces to the piece they
    follow.

    Raises:
        TextRejected: `unsupported_script` for letters of any other script.
    """
    found: list[Segment] = []
    for name, piece in _runs(text, language):
        if found and (name is None or found[-1].language == name):
            found[-1] = Segment(found[-1].language, found[-1].text + piece)
        else:
            found.append(Segment(name or language, piece))
    return _with_leading_marks_moved(found)


def plain_characters(text: str) -> str:
    """Give full-width letters and digits and half-width kana their usual form, and compose accents (NFC)."""
    text = "".join(_full_kana(text)) if any(_HALF_KANA[0] <= c <= _HALF_KANA[1] for c in text) else text
    return unicodedata.normalize("NFC", text).translate(_WIDE).replace("°C", "℃").replace("°F", "℉")


def _full_kana(text: str) -> Iterator[str]:
    """Half-width kana go together with the voicing marks behind them, so runs are folded as one."""
    run = ""
    for character in text:
        if "\uff65" <= character <= "\uff9f":
            run += character
            continue
        yield unicodedata.normalize("NFKC", run)
        run = ""
        yield character
    yield unicodedata.normalize("NFKC", run)


def _runs(text: str, language: str) -> Iterator[tuple[str | None, str]]:
    scripts = [script_of(character) for character in text]
    han = language if language in {"zh", "ja", "yue"} else "ja" if Script.KANA in scripts else "zh"
    homes = {Script.LATIN: "en", Script.KANA: "ja", Script.HANGUL: "ko", Script.HAN: han, Script.DIGIT: language}
    units = {place for match in _UNIT.finditer(text) for place in range(*match.span(1))}
    for i, (character, script) in enumerate(zip(text, scripts, strict=True)):
        if script is Script.FOREIGN:
            name = unicodedata.name(character, f"U+{ord(character):04X}").split(" ")[0].title()
            raise TextRejected(
                "unsupported_script",
                f"{character!r} ({name}) in {text[:40]!r}; the languages are written in Han, kana, Hangul and Latin",
            )
        yield language if i in units else homes.get(script), character


def _with_leading_marks_moved(found: list[Segment]) -> list[Segment]:
    """Marks before the first letter were booked as the row's language; they belong to the piece they open."""
    if len(found) > 1 and all(script_of(character) is Script.MARK for character in found[0].text):
        return [Segment(found[1].language, found[0].text + found[1].text), *found[2:]]
    return found
