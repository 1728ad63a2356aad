"""Text as it stands in corpora: which bytes are UTF-8, and what is taken out of a transcript."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from unicodedata import is_normalized, normalize

from tts_train.errors import DataError

MAX_TEXT = 5000
"""Characters; a minute of the fastest speech has under 2000."""

_BLOCK = 1 << 20
_SPACE = re.compile(r"[\s\u2028\u2029]+")
# Invisible in print, yet tokens to a model: controls, soft hyphen, zero-width space and joiner, BOM, direction marks,
# and lone surrogates, which no file can hold. ZWNJ and ZWJ are spelling in Indic and Arabic scripts and stay there.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff]|(?<![\u0590-\u1fff])[\u200c\u200d]"
)
_LINE_MARKS = re.compile("[\u2028\u2029]")
LANGUAGE_NAMES = {
    "chinese": "zh", "english": "en", "french": "fr", "german": "de", "hindi": "hi", "italian": "it", "japanese": "ja",
    "korean": "ko", "portuguese": "pt", "russian": "ru", "spanish": "es",
}  # fmt: skip
_ALIASES = {"jp": "ja", "kr": "ko", **LANGUAGE_NAMES}
_LANGUAGE = re.compile(r"[a-z]{2,3}([-_][a-z0-9]{2,8})*|all_[a-z]{2,3}|auto(_[a-z]{2,3})?")


def clean_text(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the text in NFC, without invisible characters and outer or repeated blanks, and the warnings to count."""
    # Printable ASCII holds nothing invisible and is composed already: only its blanks are looked at.
    if text.isprintable() and text.isascii():
        return (" ".join(text.split()) if "  " in text else text.strip()), ()
    warnings: list[str] = []
    cleaned = _INVISIBLE.sub("", text)
    if cleaned != text or _LINE_MARKS.search(cleaned):
        warnings.append("text_cleaned")
    if not is_normalized("NFC", cleaned):
        cleaned = normalize("NFC", cleaned)
        warnings.append("text_nfc")
    return _SPACE.sub(" ", cleaned).strip(), tuple(warnings)


def has_words(text: str) -> bool:
    """Tell whether the text has a letter or a digit of any script."""
    return text[:1].isalnum() or any(map(str.isalnum, text))


def clean_language(language: str) -> tuple[str, tuple[str, ...]]:
    """Return the language in lower case with its usual code, and the warnings to count."""
    code = language.lower()
    code = _ALIASES.get(code, code)
    return code, () if _LANGUAGE.fullmatch(code) else ("language_unknown",)


def require_utf8(path: Path) -> None:
    """Read the whole file once and make sure it is UTF-8, so that no row is read in a wrong encoding.

    Raises:
        DataError: naming the first line that is not UTF-8, the likely encoding and how to convert the file.
    """
    decoder, line, first = codecs.getincrementaldecoder("utf-8")(), 1, True
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            # UTF-16 of English without a mark is valid UTF-8, with a zero byte behind each letter.
            if first and _is_wide(block):
                raise _not_utf8(path, block, line=1)
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise _not_utf8(path, block, line=line) from None
            line += block.count(b"\n")
            first = False
    # Bytes that wait for more: a copy that broke off.
    if decoder.getstate()[0]:
        raise DataError(f"{path} ends in the middle of a character; the file is cut off. Copy it again.")


def read_lines(path: Path, *, errors: str = "strict") -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of the non-blank lines; LF, CRLF and lone CR end a line, a BOM is skipped."""
    with path.open(encoding="utf-8-sig", errors=errors, newline=None) as file:
        for number, line in enumerate(file, start=1):
            if line := line.rstrip("\n"):
                yield number, line


def guess_encoding(data: bytes) -> str:
    """Return the likely encoding of some bytes, for messages only: nothing is ever read by a guess."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    if _is_wide(data):
        return "UTF-16LE" if data[1:2] == b"\0" else "UTF-16BE"
    from charset_normalizer import from_bytes

    best = from_bytes(data[: 1 << 16]).best()
    return best.encoding.upper().replace("_", "-") if best else "unknown"


def _is_wide(data: bytes) -> bool:
    """Plain English in UTF-16 is also valid UTF-8, with every second character NUL."""
    head = data[:4096]
    return head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or head.count(0) * 4 > len(head)


def _not_utf8(path: Path, block: bytes, *, line: int) -> DataError:
    guess = guess_encoding(block)
    given = guess if guess != "unknown" else "ITS_ENCODING"
    return DataError(
        f"{path} is not UTF-8 (line {line}); it looks like {guess}, which is a guess. Nothing was read. "
        f"If the guess is right, convert it: iconv -f {given} -t UTF-8 < {path.name} > NEW_FILE - and name that."
    )
