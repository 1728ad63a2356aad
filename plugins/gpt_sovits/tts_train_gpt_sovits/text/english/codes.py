"""Names and codes: telephone numbers, versions, addresses, abbreviations, titles, Roman numerals, names with digits."""

from __future__ import annotations

import re
from collections.abc import Container

from tts_train_gpt_sovits.text.english.numbers import (
    NUMBER,
    Rule,
    after,
    before,
    cardinal,
    code_number,
    digits,
    follows,
    number,
    ordinal,
    rule,
    running_number,
    version,
)

_ENDINGS = "com|org|net|edu|gov|mil|int|info|biz|io|ai|app|dev|co|uk|ca|de|fr|eu|jp|cn|tv|gg|xyz"
_STREET_KINDS = "Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Court|Ct|Boulevard|Blvd|Way|Place"
_FILES = (
    "py|md|js|ts|txt|pdf|jpe?g|png|gif|mp3|mp4|wav|flac|csv|json|ya?ml|html?|css|exe|zip|docx?|xlsx?|cpp|java|rs|go|sh|"
    "net"
)
_IN_ADDRESSES = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon", "?": "question mark",
    "=": "equals",
    "&": "and", "%": "percent", "#": "hash", "+": "plus", "~": "tilde",
}  # fmt: skip
_PLAIN_ENDINGS = frozenset({"com", "org", "net", "gov", "info", "biz", "mil"})
# In the dictionary, or long enough to look like words, and still spelled in addresses.
_SPELLED_TEXT = """
ai ca cn co de edu eu fr gg html http https io jp md tv uk www xyz
"""
_SPELLED = frozenset(_SPELLED_TEXT.split())
_DIGIT_BY_DIGIT = r"\b(?:call(?:s|ed|ing)?|dial(?:s|ed)?|phone|text(?:ed)?|zip|code|pin|passcode|otp|extension|ext\.?) "
# Said digit by digit wherever they stand.
_EMERGENCY = frozenset({"911", "999", "988", "112"})


def _groups(match: re.Match[str]) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return plus + ", ".join(digits(group) for group in re.findall(r"\d+", match[0]))


def _seven_digits(match: re.Match[str]) -> str | None:
    first, second = match[0].split("-")
    # Round numbers that rise are a range more often than a telephone.
    if first.endswith("0") and second.endswith("0") and int(first) < int(second):
        return None  # 500-1000 people
    return _groups(match)


def _zero_led(match: re.Match[str]) -> str | None:
    groups = re.findall(r"\d+", match[0])
    # Fewer digits behind a 0 are a code, which other rules read.
    return _groups(match) if len("".join(groups)) >= 8 else None


def _called(match: re.Match[str]) -> str | None:
    if (match[0] in _EMERGENCY and not follows(match, r"[$€£¥]")) or follows(match, _DIGIT_BY_DIGIT):
        return digits(match[0])
    if len(match[0]) == 5 and re.search(r"\b[A-Z]{2},? $", before(match)):
        return digits(match[0])  # a state and its postal code
    return None


def _name_with_digits(match: re.Match[str]) -> str:
    """Keep letters and digits apart; one letter beside digits is its name (4a, B2B)."""
    words = []
    for part in re.findall(r"[A-Za-z]+|\d+(?:\.\d+)*", match[0]):
        # In capitals, since the reader spells a single capital and would say a small `a` as the article.
        words.append(code_number(part) if part[0].isdigit() else part.upper() if len(part) == 1 else part)
    return " ".join(words)


def _several(match: re.Match[str]) -> str:
    said = running_number(match[1])
    return re.sub(r"y$", "ie", said) + ("es" if said.endswith("x") else "s")


def _scientific(match: re.Match[str]) -> str:
    sign = {"-": "negative ", "+": "", "": ""}[match[2]]
    return f"{number(match[1])} times ten to the power of {sign}{cardinal(match[3])}"


def _by(match: re.Match[str]) -> str | None:
    """Say 1920x1080 and 4x4 with by; a cross between small numbers is a product."""
    # 0x1F is a number of programmers, 3 × 4 a product, 1920 × 1080 a size.
    if match[1] == "0" or ("×" in match[0] and len(match[1]) < 3):
        return None
    return f"{running_number(match[1])} by"


def address(text: str, words: Container[str]) -> str | None:
    """Say an e-mail or web address sign by sign; None where a sign has no name."""
    said = []
    for part in re.findall(r"[A-Za-z]+|\d+|[^A-Za-z\d]", text):
        if part.isdigit():
            said.append(digits(part))
        elif part.isalpha() and part.isascii():
            said.append(_address_word(part, words))
        elif part in _IN_ADDRESSES:
            said.append(_IN_ADDRESSES[part])
        else:
            return None
    return " ".join(said)


def _address_word(part: str, words: Container[str]) -> str:
    plain = part.lower()
    if (
        plain in _PLAIN_ENDINGS
        or (plain in words and len(part) > 1 and plain not in _SPELLED)
        or (len(part) > 5 and plain not in _SPELLED)
    ):
        return part
    return " ".join(part.upper()) if len(part) <= 3 or plain in _SPELLED else part


def addresses(words: Container[str]) -> tuple[Rule, ...]:
    """Give the rules for addresses; `words` are said as words, other short names letter by letter."""

    def say(match: re.Match[str]) -> str | None:
        return address(match[0], words)

    # Marks behind an address belong to the sentence.
    end = r"(?<![.,;:!?)'\"])"
    return (
        rule(rf"[A-Za-z\d][\w.+-]*@[A-Za-z\d-]+(?:\.[A-Za-z\d-]+)*\.[A-Za-z]{{2,}}(?:/[^\s<>\"]*{end})?", say),
        rule(rf"(?:https?|ftp|file)://[^\s<>\"]+{end}|www\.[^\s<>\"]+{end}", say, re.IGNORECASE),
        rule(rf"[A-Za-z\d-]+(?:\.[A-Za-z\d-]+)*\.(?:{_ENDINGS})\b(?![.@]\w)(?:[/?][^\s<>\"]*{end})?", say),
        rule(rf"[A-Za-z][\w-]*(?:\.[\w-]+)*\.(?:{_FILES})\b(?![.\w])", say),
        rule(r"[A-Za-z][A-Za-z\d]*(?:_[A-Za-z\d]+)+(?!\w)", say),
    )


TELEPHONES: tuple[Rule, ...] = (
    rule(r"\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]\d{2,8}){1,4}(?!\d)|\+\d{8,15}(?!\d)", _groups),
    rule(r"(?:1[-. ])?(?:\(\d{3}\) ?-?|\d{3}[-. ])\d{3}[-. ]\d{4}(?!-?\d)", _groups),
    # 555 1234: the telephone numbers of films.
    rule(r"555[ .]\d{4}(?!\d)", _groups),
    rule(r"(?:1-)?[2-9]\d\d-(?:\d{3}-)?(?=[A-Z\d-]*[A-Z]{2})", _groups),  # 1-800-FLOWERS
    rule(r"\d{1,5}(?:-\d{1,7}){2,5}(?![\d-]*[\d%=])", _groups),
    rule(r"\d{3}-\d{4}(?![\d-]*[\d%=])", _seven_digits),
    # A British or European number, with its area first.
    rule(r"0\d{1,4}(?:[ -]\d{2,7}){1,4}(?!\d)", _zero_led),
    # The number of a bank card, in groups of four.
    rule(r"\d{4}(?: \d{4}){2,4}(?!\d)", _groups),
    rule(r"\d{3,}(?![\d.,:%/-]*\d|%|\w)", _called),
)
CODES: tuple[Rule, ...] = (
    rule(r"(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(m[1]), re.IGNORECASE),
    rule(
        r"[vV]?\d+(?:\.\d+){2,}(?![\d]|\.\d)", lambda m: ("V " if m[0][0] in "vV" else "") + version(m[0].lstrip("vV"))
    ),
    # 5s and 747s; 1s is a second.
    rule(r"(\d{2,}|[02-9])s\b", _several),
    # The class of '68.
    rule(r"'(\d\d)(?![\w'])", lambda m: f"oh {cardinal(m[1][1])}" if m[1][0] == "0" else cardinal(m[1])),
    rule(r"(\d+(?:\.\d+)?)[eE]([+-]?)(\d+)(?![\w.])", _scientific),
    # Thousands as the Swiss write them; below, as the French do.
    rule(r"\d{1,3}(?:'\d{3})+(?!\d)", lambda m: cardinal(m[0].replace("'", ""))),
    rule(r"\d{1,3}(?: \d{3})* 000(?: \d{3})*(?! ?\d)", lambda m: cardinal(m[0].replace(" ", ""))),
    rule(r"(\d+(?:\.\d+)?) ?[x×] ?(?=\d)(?![^=]*=)", _by),
    rule(r"[x×] ?(?=\d)", lambda m: "by" if follows(m, r"\d ?(?:[\"'′″]|[a-z]{1,2}) ?") else None),
    rule(r"(?:[A-Za-z]+\d|\d+(?:\.\d+)*[A-Za-z])(?:[A-Za-z\d]|\.\d)*", _name_with_digits),
    rule(rf"(\d{{3}})(?= (?:[NSEW]\.? )?(?:[A-Z][a-z]+ ){{1,2}}(?:{_STREET_KINDS})\b)", lambda m: code_number(m[1])),
    rule(NUMBER, lambda m: running_number(m[0])),
)


def is_code(match: re.Match[str]) -> bool:
    """Tell whether the text in front ends in a name with digits (i7, A1), so that a hyphen is no range."""
    return bool(re.search(r"[A-Za-z]-?\d[\w.]*$", before(match)))


WORDS = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "prof": "professor", "jr": "junior", "sr": "senior", "mt": "mount",
    "vs": "versus", "etc": "et cetera", "approx": "approximately", "dept": "department", "gen": "general",
    "col": "colonel",
    "capt": "captain", "lt": "lieutenant", "rev": "reverend", "hon": "honorable", "sgt": "sergeant", "gov": "governor",
    "sen": "senator", "rep": "representative", "ave": "avenue", "blvd": "boulevard", "rd": "road", "hwy": "highway",
    "inc": "incorporated", "ltd": "limited", "corp": "corporation", "est": "established", "govt": "government",
    "dr": "doctor", "st": "saint",
}  # fmt: skip
_BEFORE_NUMBERS = {
    "No": "number", "no": "number", "Nos": "numbers", "nos": "numbers", "p": "page", "pp": "pages", "vol": "volume",
    "Vol": "volume", "fig": "figure",
    "Fig": "figure", "ch": "chapter", "Ch": "chapter", "ext": "extension", "apt": "apartment", "Apt": "apartment",
    "sec": "section", "Sec": "section", "eq": "equation", "Eq": "equation", "ca": "circa", "pg": "page",
    "ver": "version",
}  # fmt: skip
_STREETS = {"st": "street", "dr": "drive"}
# A capitalised word in front makes St. a street (Main St.), unless one of these makes it a saint (in St. Paul).
_NO_NAMES = r"\b(?:at|in|the|of|to|from|near|and|by|on|with|for|dear|ask|see|is|was|as|but|or|when|then|that|after) "
_RULERS_TEXT = """
Albert Alexander Alfonso Benedict Catherine Charles Christian Clement Constantine Darius Edward Elizabeth Ferdinand
Francis Frederick George Gregory Gustav Henry Innocent Ivan James John Paul Juan Carlos Leo Leopold Louis Mary
Napoleon Nicholas Otto Peter Philip Pius Ptolemy Rama Ramses Ramesses Richard Rudolf Sixtus Thutmose Umberto Urban
Victor Emmanuel Wilhelm William Xerxes
"""
_RULERS = frozenset(_RULERS_TEXT.split())
_NUMBERED_TEXT = """
Act Appendix Article Book Chapter Class Division Episode Figure Grade Group Level Lesson Mark Part Phase Round Scene
Schedule Section Series Stage Step Table Tier Title Type Unit Vol Volume War Bowl
"""
_NUMBERED = frozenset(_NUMBERED_TEXT.split())
_ROMAN = r"(?=[IVXLC])(?:C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\b"
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def _abbreviation(match: re.Match[str]) -> str | None:
    word = match[1]
    plain = word.lower()
    full = WORDS.get(plain)
    if not full or word.isupper():
        return None
    ends = not after(match).strip()
    follows_name = (
        follows(match, r"[a-z] ") and re.search(r"\b[A-Z][a-z]+ $", before(match)) and not follows(match, _NO_NAMES)
    )
    names_next = bool(re.match(r"\s+[A-Z]", after(match)))
    numbered = bool(re.search(r"\d(?:st|nd|rd|th) $", before(match))) and not names_next
    if plain in _STREETS and (numbered or (follows_name and (plain == "st" or not names_next))):
        full = _STREETS[plain]
    return full + ("." if ends else "")


def _before_number(match: re.Match[str]) -> str:
    return _BEFORE_NUMBERS[match[1]]


def _roman(match: re.Match[str]) -> str | None:
    """Read a numeral after a ruler's name as a place, after Chapter and its like as a number; others where certain."""
    name = re.search(r"\b([A-Z][a-z]+)\.? $", before(match))
    # I, V, X, C, MI and XL are letters, words and sizes; III is nothing else.
    certain = len(match[0]) > 2 and set(match[0]) <= set("IVX") and match[0] != "XXX"
    if not match[0] or not (name or certain):
        return None
    digits = str(roman_value(match[0]))
    if re.match(r" centur(?:y|ies)\b", after(match)):
        return ordinal(digits)
    if not name:
        return cardinal(digits)
    ends = not re.match(r" ?[a-z]", after(match)) or re.match(r" (?:of|and|was|is|to|in)\b", after(match))
    if name[1] in _NUMBERED and (match[0] != "I" or ends or name[1] == "War"):
        return cardinal(digits)
    if name[1] in _RULERS and len(match[0]) > 1 - (match[0] in "VX") and match[0] not in "LC":
        # Of a ruler's I nobody can tell whether it is the pronoun.
        return f"the {ordinal(digits)}" if match[0] != "I" else None
    return cardinal(digits) if len(match[0]) > 1 and set(match[0]) <= set("IVX") else None


def roman_value(numeral: str) -> int:
    """Give the number that a Roman numeral in capitals stands for."""
    values = [_VALUES[letter] for letter in numeral]
    # A letter before a larger one counts down.
    return sum(-v if v < max(values[i:]) else v for i, v in enumerate(values))


ABBREVIATIONS: tuple[Rule, ...] = (
    rule(r"e\.\s?g\.", lambda _: "for example", re.IGNORECASE),
    rule(r"i\.\s?e\.", lambda _: "that is", re.IGNORECASE),
    rule(r"Ph\.\s?D\.?", lambda _: "P H D"),
    rule(rf"({'|'.join(_BEFORE_NUMBERS)})\.\s*(?=\d)", _before_number),
    rule(r"([A-Za-z]+)\.(?=\s+\S|,|\s*$)", _abbreviation),
    rule(r"c\. ?(?=\d{3,4}\b)", lambda _: "circa"),
    rule(r"WW(I{1,2}|[12])\b", lambda m: f"World War {'one' if m[1] in {'I', '1'} else 'two'}"),
    rule(_ROMAN, _roman),
)
