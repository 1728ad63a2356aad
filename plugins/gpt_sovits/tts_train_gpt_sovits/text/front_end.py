"""The front end: text of a row to normalised text, phones and their ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.text.chinese.normal import spoken_numbers
from tts_train_gpt_sovits.text.languages import (
    AUTO,
    LANGUAGES,
    V1_LANGUAGES,
    detect_language,
    normalise_language,
    plain_characters,
    segments,
)
from tts_train_gpt_sovits.text.reading import PUNCTUATION, Reader, TextRejected, data_digest, symbol_table

RULES = 6
"""Goes up when a rule changes what any text is read as, so that old shards are not mistaken for new ones."""

_MODULES = MappingProxyType(
    {"zh": "chinese.reader", "en": "english.reader", "ja": "japanese", "ko": "korean.reader", "yue": "cantonese"}
)
_SIGNS = MappingProxyType({"ja": "japanese", "ko": "korean.normal"})
_SILENT = frozenset({*PUNCTUATION, "_", "SP", "SP2", "SP3", "UNK", "空", "停"})


@dataclass(frozen=True)
class TextPart:
    """A piece of one language: `norm_text` and, for zh and yue, the phones of each of its characters."""

    language: str
    norm_text: str
    phones: tuple[str, ...]
    word2ph: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SpokenText:
    """A row read aloud, of `language` (pieces of it may be of others).

    `ids` are the phones' places in the version's table. `word2ph` covers the whole of `norm_text`, or is None where
    any part has none; BERT features run over the zh `parts`, whose phones follow one another in `phones`.
    """

    norm_text: str
    phones: tuple[str, ...]
    ids: tuple[int, ...]
    word2ph: tuple[int, ...] | None
    parts: tuple[TextPart, ...]
    language: str


class FrontEnd:
    """Reads text of one version's languages; each language's library is imported when the first text needs it.

    Args:
        version: v1, v2, v2Pro, v2ProPlus, v3 or v4; only v1's table and languages differ.
        languages: the languages that may be read, mixed pieces included.
        default_language: what a row without a language is read as: one of `languages`, `auto` (found from the text),
            or None, which rejects the row.
    """

    def __init__(
        self,
        version: str,
        *,
        languages: Sequence[str] = LANGUAGES,
        default_language: str | None = None,
    ) -> None:
        self.table = symbol_table(version)
        self.version = version
        self.languages = tuple(map(normalise_language, languages))
        self._default = default_language
        self._readers: dict[str, Reader] = {}
        if default_language not in {None, AUTO, *LANGUAGES}:
            raise ConfigError(
                f"--language is one of {', '.join(LANGUAGES)}, {AUTO}, and {default_language!r} was given."
            )

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides a reading: rules, dictionaries, table and the versions of the libraries."""
        # Whatever could change a phone: rows that were prepared with another fingerprint are prepared again.
        parts = [f"rules {RULES}", f"table {len(self.table.symbols)}", data_digest(), f"default {self._default}"]
        for language in self.languages:
            libraries = import_module(f"tts_train_gpt_sovits.text.{_MODULES[language]}").LIBRARIES
            parts += [f"{language} {library} {_installed(library)}" for library in libraries]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def speak(self, text: str, language: str | None, *, phones: Sequence[str] | None = None) -> SpokenText:
        """Read `text` of a row whose language is `language` (any code; empty, None or `auto`: see the constructor).

        `phones` given by the user are checked against the table and used as they are; the text is then kept unread.

        Raises:
            TextRejected: the row cannot be read; its `reason` says why.
            MissingExtraError: a language's library is not installed.
        """
        name = self._row_language(text, language)
        if phones is not None:
            given = tuple(phones)
            self._require_sound(given, text)
            return SpokenText(text, given, self.table.ids_of(given), None, (TextPart(name, text, given),), name)
        parts = self._parts(text, name)
        spoken = tuple(phone for part in parts for phone in part.phones)
        self._require_sound(spoken, text)
        norm_text = "".join(part.norm_text for part in parts)
        return SpokenText(norm_text, spoken, self.table.ids_of(spoken), _joined_word2ph(parts), parts, name)

    def _row_language(self, text: str, language: str | None) -> str:
        named = (language or "").strip()
        wanted = named or self._default
        if wanted is None:
            raise TextRejected(
                "no_language",
                f"{text[:40]!r} has no language; name it or set a default: {', '.join(LANGUAGES)}, {AUTO}",
            )
        name = detect_language(plain_characters(text)) if wanted == AUTO else normalise_language(wanted)
        self._require_enabled(name, text)
        return name

    def _parts(self, text: str, language: str) -> tuple[TextPart, ...]:
        parts: list[TextPart] = []
        for segment in segments(_whole_row(plain_characters(text), language), language):
            self._require_enabled(segment.language, segment.text)
            reading = self._reader(segment.language).read(segment.text)
            if reading.phones:
                parts.append(TextPart(segment.language, reading.norm_text, reading.phones, reading.word2ph))
        return tuple(parts)

    def _reader(self, language: str) -> Reader:
        if language not in self._readers:
            self._readers[language] = _make_reader(language, self.version)
        return self._readers[language]

    def _require_enabled(self, language: str, text: str) -> None:
        if self.version == "v1" and language not in V1_LANGUAGES:
            raise TextRejected(
                "language_not_in_v1", f"{text[:40]!r} is {language}; v1 speaks {', '.join(V1_LANGUAGES)}, v2 all five"
            )
        if language not in self.languages:
            raise TextRejected(
                "language_not_enabled", f"{text[:40]!r} is {language}; enabled are {', '.join(self.languages)}"
            )

    def _require_sound(self, phones: Sequence[str], text: str) -> None:
        # Marks alone would be trained as speech.
        if _SILENT.issuperset(phones):
            raise TextRejected("empty_text", f"{text[:40]!r} has nothing to speak")


def _make_reader(language: str, version: str) -> Reader:
    # By name, since a language's library may be missing where nothing is read in it.
    module = import_module(f"tts_train_gpt_sovits.text.{_MODULES[language]}")
    makers: Mapping[str, Callable[[], Reader]] = {
        # v1's readers had neither erhua nor pitch marks, and its weights know no others.
        "zh": lambda: module.ChineseReader(erhua=version != "v1"),
        "en": lambda: module.EnglishReader(),
        "ja": lambda: module.JapaneseReader(prosody=version != "v1"),
        "ko": lambda: module.KoreanReader(),
        "yue": lambda: module.CantoneseReader(),
    }
    return makers[language]()


def _whole_row(text: str, language: str) -> str:
    """Read what has to be seen before the row is cut: a sign may stand beside Latin letters (US$5, 3D, x²)."""
    if language in {"zh", "yue"}:
        return spoken_numbers(text, cantonese=language == "yue")
    if language in _SIGNS:
        return str(import_module(f"tts_train_gpt_sovits.text.{_SIGNS[language]}").spoken_signs(text))
    return text


def _joined_word2ph(parts: Sequence[TextPart]) -> tuple[int, ...] | None:
    counts = [part.word2ph for part in parts]
    return None if None in counts else tuple(n for group in counts if group for n in group)


def _installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"
