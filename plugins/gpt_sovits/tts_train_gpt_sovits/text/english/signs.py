"""Signs that are spoken: operators, powers, indices, hyphens between numbers; and those that stay silent."""

from __future__ import annotations

import re
import unicodedata

from tts_train_gpt_sovits.text.english.amounts import LONE, inside_a_word
from tts_train_gpt_sovits.text.english.codes import is_code, roman_value
from tts_train_gpt_sovits.text.english.numbers import Rule, after, before, cardinal, follows, number, rule
from tts_train_gpt_sovits.text.reading import TextRejected

_FOLDED = str.maketrans(
    {
        **dict.fromkeys("’‘“”„`´ʼ‚‛", "'"), **dict.fromkeys("−‐‑‒", "-"), **dict.fromkeys(";、", ","),
        **dict.fromkeys("〜∼˜", "~"), **dict.fromkeys("˚∘", "°"), **dict.fromkeys("∙⋅", "·"),
        "—": " - ", "―": " - ", "。": ".", "…": ". ", "№": "No. ", "∗": "*", "∕": "/", "≦": "≤", "≧": "≥",
        # letters that have no accent to take off
        "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
        "đ": "d", "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th", "Þ": "Th", "ı": "i",
    }
)  # fmt: skip
_SILENT = str.maketrans(
    dict.fromkeys("()[]{}«»‹›「」『』【】《》〈〉〔〕（）［］｛｝¿¡\t\r", " ")
    | dict.fromkeys("•●‣▪◦·・:", ",")
    | {"–": " - ", '"': "'"}
)
SPOKEN = {
    "&": "and", "@": "at", "+": "plus", "=": "equals", "×": "times", "÷": "divided by", "±": "plus or minus",
    "∓": "minus or plus", "≠": "not equal to", "≤": "less than or equal to", "≥": "greater than or equal to",
    "≈": "approximately", "≅": "approximately", "√": "square root of", "∛": "cube root of", "∞": "infinity",
    "°": "degrees",
    "♯": "sharp", "♭": "flat",
    "§": "section", "¶": "paragraph", "©": "copyright", "%": "percent", "‰": "per mille",
    "/": "slash", "\\": "backslash",
}  # fmt: skip
_UP = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni", strict=True))
_DOWN = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙₓᵢ", "0123456789+-nxi", strict=True))
_PLAIN = {"+": "plus", "-": "minus", "n": "N", "i": "I", "x": "X"}
_TERM = r"\(*(?:\d[\d.,]*[A-Za-z]?|\.\d+|[A-Za-z])(?![A-Za-z])[²³%°)]*"
_EQUATION = re.compile(rf"(?<!\w){_TERM}(?: ?[-–+*×÷/^=<>≤≥≈≠·] ?-?{_TERM})+")
_TOGETHER = frozenset(
    {"and/or", "he/she", "she/he", "him/her", "his/her", "his/hers", "either/or", "on/off", "yes/no", "s/he"}
)
_LONGEST = 300  # digits; a minute and more of speech
_TAG = r"/?[A-Za-z][\w-]*(?: [^<>]*=[\"'][^<>]*)? ?/?"
_AMOUNT_AHEAD = r" ?-?(?:[A-Z]{0,2}[$€£¥₹₩])?\.?\d"


def fold(text: str) -> str:
    """Give one form to signs that have several, and take invisible ones out.

    Raises:
        TextRejected: `unreadable_text` for a number that nobody reads out.
    """
    if long := re.search(rf"(?:\d[,.]?){{{_LONGEST},}}", text):
        raise TextRejected("unreadable_text", f"a number of more than {_LONGEST} digits, {long[0][:20]}…; shorten it")
    # Soft hyphens, joiners, and what chooses the look of an emoji.
    text = "".join(c for c in text if unicodedata.category(c) != "Cf" and c not in "\ufe0e\ufe0f")
    text = re.sub(r"(?<=\d)[—―](?=\d)", "–", text)
    # Signs that are Roman numerals and nothing else; letters are left to the rule that looks at names.
    text = re.sub("[Ⅰ-ⅿ]+", lambda m: str(roman_value(unicodedata.normalize("NFKC", m[0]).upper())), text)
    text = "".join(_compatible(c) for c in text).translate(_FOLDED)
    text = re.sub(r"(?<=€)(\d+),(?=\d{1,2}(?![\d,]))|(\d+),(?=\d{2} ?€)", r"\1\2.", text)  # decimals of the Continent
    text = re.sub(r"(?<![\w*])(\*{1,3}|_{1,2})(?=\w)([^*_\n]+?)(?<=[\w.,!?'])\1(?![\w*])", r"\2", text)  # *stress*
    return re.sub(r"(?<=[A-Za-z])\((s|es)\)", r"\1", text)


def _compatible(character: str) -> str:
    if ord(character) in _FOLDED:
        return character
    kind = unicodedata.decomposition(character).split(" ")[0]
    if kind in {"<square>", "<wide>", "<narrow>", "<compat>", "<circle>", "<small>"}:
        plain = unicodedata.normalize("NFKC", character)
        # ①② would become twelve.
        return f" {plain} " if kind == "<circle>" else plain
    if kind == "<super>" and character not in _UP and character not in "ªº™℠":
        return unicodedata.normalize("NFKC", character)
    return character


def silence(text: str) -> str:
    """Put spaces for brackets and marks for what is a pause.

    Raises:
        TextRejected: `unreadable_text` for a sign that has no reading, so that none is left out unsaid.
    """
    text = text.translate(_SILENT)
    # CMUdict has no accents: naïve is found as naive.
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    text = "".join(" " if _is_picture(c) else c for c in text)
    unknown = sorted(set(re.findall(r"[^ A-Za-z'.,?!\-\n]", text)))
    if unknown:
        names = ", ".join(f"{c!r} ({unicodedata.name(c, f'U+{ord(c):04X}').title()})" for c in unknown[:5])
        given = " ".join(text.split())[:60]
        raise TextRejected(
            "unreadable_text",
            f"{names} in {given!r} has no English reading there; write it as words or take it out",
        )
    return text


def _is_picture(character: str) -> bool:
    """Tell whether nobody reads a character out: emoji and other pictures, the marks of a trade name."""
    category = unicodedata.category(character)
    picture = category == "So" and ord(character) > 0x2300
    return picture or category == "Me" or character in "®™" or "🏻" <= character <= "🏿"


def _hyphen(match: re.Match[str]) -> str | None:
    """Say `to` in a range, `minus` in an equation, `negative` before a number; a hyphen between words parts them."""
    left, right = before(match), after(match)
    spaced = match[0].startswith(" ") or left.endswith(" ")
    left, right = left.rstrip(), right.lstrip()
    ends_amount = bool(re.search(r"(?:\d ?[a-zA-Z%°²³/\".']{0,4}|[%°€£¥¢₹$])$", left))
    starts_amount = bool(re.match(_AMOUNT_AHEAD, right))
    # A dash that nothing stands before, or that only touches what is behind it, is a sign.
    if starts_amount and (
        not left or (spaced and not match[0].endswith(" ") and not ends_amount) or left[-1:] in "(=+*×÷^<>~±,:/$€£¥-–"
    ):
        return "negative"
    if _in_equation(match):
        return "minus"
    # i7-9700 has no range in it.
    if not spaced and is_code(match):
        return _between_codes(match)
    if ends_amount and starts_amount:
        plain = re.search(r"(?<![\w.:])[\d.,]+$", left) and re.match(r"-?\.?\d[\d.,]*(?![\w:%])", right)
        # 10 - 4 is six, and 10 - 20 people is a range: what is counted tells.
        counts = re.match(r"-?[\d.,]+ (?!is\b|equals?\b|makes?\b|gives?\b|and\b|or\b)[a-z]", right)  # 10 - 20 people
        return "minus" if spaced and plain and not counts and "-" in match[0] else "to"
    if not spaced and re.search(r"\b[Aa]$", left) and re.match(r"[Zz]\b", right):
        return "to"
    if (
        not spaced
        and match[0] in "-–"
        and left
        and (left[-1].isalnum() or left[-1] == ".")
        and re.match(r"'?\w", right)
    ):
        return ""
    return None


def _between_codes(match: re.Match[str]) -> str:
    head = re.search(r"([A-Za-z]+)\d+$", before(match))
    same = head and re.match(rf"{head[1]}\d", after(match))
    return "to" if same else ""


def _in_equation(match: re.Match[str]) -> bool:
    place = match.start() + len(match[0]) // 2
    return any(
        found.start() <= place < found.end()
        and re.search(r"[=+×÷*^<>≈≠≤≥]", found[0])
        and re.search(r"\d|\b[a-z]\b", found[0])
        for found in _EQUATION.finditer(match.string)
    )


def _power(match: re.Match[str]) -> str | None:
    """Say powers of numbers, brackets and single letters, and the charge of an ion; a note's mark is left."""
    if match[0][0] == "^":
        raised = match[1].strip("(){} ").replace("−", "-")
    else:
        raised = "".join(_UP[c] for c in match[0])
        if raised[-1] in "+-" and follows(match, r"[A-Za-z₀-₉\])]"):
            return " ".join(filter(None, [cardinal(raised[:-1]) if raised[:-1].isdigit() else "", _PLAIN[raised[-1]]]))
    if not follows(match, r"[\d)\]]|(?<![A-Za-z])[A-Za-z]" + ("{1,2}" if raised in {"2", "3"} else "")):
        return None
    if raised in {"2", "3"}:
        return "squared" if raised == "2" else "cubed"
    sign, rest = ("negative ", raised[1:]) if raised[:1] == "-" else ("", raised.lstrip("+"))
    said = number(rest) if re.fullmatch(r"\d+(?:\.\d+)?", rest) else rest.upper() if len(rest) == 1 else None
    return f"to the power of {sign}{said}" if said else None


def _index(match: re.Match[str]) -> str | None:
    plain = "".join(_DOWN.get(c, c) for c in match[0])
    if not follows(match, r"[A-Za-z)\]⁺⁻]"):
        return None
    return " ".join(_PLAIN.get(part) or number(part) for part in re.findall(r"\d+(?:\.\d+)?|\D", plain))


def _hash(match: re.Match[str]) -> str | None:
    if re.match(r" ?\d| of\b", after(match)):
        return "number"
    if re.match(r"[A-Za-z_]", after(match)):
        return "hashtag"
    return "sharp" if follows(match, r"\b[A-GJ]") else None


def _less_or_more(match: re.Match[str]) -> str | None:
    opens, closes = re.match(rf"{_TAG}>", after(match)), re.search(rf"<{_TAG}$", before(match))
    # <<, >> and -> point somewhere and compare nothing.
    arrow = match[0][0] in after(match)[:1] + before(match)[-1:] or (
        match[0] == ">" and before(match)[-1:] in {"-", "="}
    )
    if opens or closes or arrow or not after(match).strip():
        return None  # a tag, an arrow
    return {"<": "less than", ">": "greater than", "<=": "less than or equal to", ">=": "greater than or equal to"}[
        match[0]
    ]


def _star(match: re.Match[str]) -> str | None:
    return (
        "times" if follows(match, r"[\w)] ?") and re.match(r" ?[\w(.-]", after(match)) and _is_operand(match) else None
    )


def _is_operand(match: re.Match[str]) -> bool:
    """Tell a product from a blotted word: a number or a single letter stands on both sides."""
    right = re.match(r" ?-?(?:[\d.]+|[A-Za-z]\b|\()", after(match))
    return bool(right) and follows(match, r"(?:\d|\)|\b[A-Za-z]) ?")


def _tilde(match: re.Match[str]) -> str | None:
    if re.match(_AMOUNT_AHEAD, after(match)):
        return "to" if follows(match, r"[\d%°a-z] ?") and re.search(r"\d[a-z%°]{0,3} ?$", before(match)) else "about"
    return "," if follows(match, r"[A-Za-z!?.]") and not re.match(r"\w", after(match)) else None


def _slash(match: re.Match[str]) -> str:
    """Say `per` before a unit of time and the like; between abbreviations, and in phrases, a slash is silent."""
    pair = re.search(r"[A-Za-z]+$", before(match)), re.match(r"[A-Za-z]+", after(match))
    left, right = (found[0] if found else "" for found in pair)
    if f"{left}/{right}".lower() in _TOGETHER or (left.isupper() and right.isupper()):
        return ""
    return SPOKEN["/"]


_PER = {
    "hr": "hour", "h": "hour", "min": "minute", "s": "second", "sec": "second", "mo": "month", "wk": "week",
    "yr": "year", "lb": "pound",
    "kg": "kilogram", "oz": "ounce", "mi": "mile", "km": "kilometer", "gal": "gallon",
}  # fmt: skip
_PER_WORDS = (
    "hour|minute|second|day|night|week|month|quarter|year|person|head|mile|gallon|pound|seat|user|page|unit|item|piece"
)
SIGNS: tuple[Rule, ...] = (
    rule(r"-(?=[\s.,;!?)]|$)", lambda m: "minus" if re.search(r"\b(?:[A-DO]|AB)$", before(m)) else None),  # a grade
    rule(r" ?[-–](?!-) ?", _hyphen),
    rule(
        r"/ ?(hr|h|min|sec|s|mo|wk|yr|lb|kg|oz|mi|km|gal)\b",
        lambda m: f"per {_PER[m[1]]}" if follows(m, r"\w") else None,
    ),
    rule(rf"/ ?({_PER_WORDS})\b", lambda m: f"per {m[1]}"),
    rule(r"w/o\b", lambda _: "without"),
    rule(r"w/(?=\s|[A-Za-z])", lambda _: "with"),
    rule(r"/", _slash),
    rule(r"\^ ?(\([-−]?[\w.]+\)|\{[-−]?[\w.]+\}|[-−]?[\d.]*\d|[-−]?[A-Za-z]\b)", _power),
    rule(rf"[{''.join(map(re.escape, _UP))}]+", _power),
    rule(rf"[{''.join(_DOWN)}]+(?:\.[{''.join(_DOWN)}]+)*", _index),
    rule(r"#", _hash),
    # Elsewhere they are decoration.
    rule(r"[★☆]+", lambda m: "stars" if follows(m, r"\d ?") else None),
    rule(r"_+(?=[A-Za-z\d])|(?<=[A-Za-z\d])_+", lambda m: " ".join(["underscore"] * len(m[0]))),
    rule(r"[<>]=?", _less_or_more),
    rule(r"!=(?!=)", lambda _: "not equal to"),
    rule(r"[*·](?! *[*·])", _star),
    rule(r"~", _tilde),
    rule(rf"[{''.join(map(re.escape, LONE))}]", lambda m: None if inside_a_word(m) else LONE[m[0]]),
    rule(rf"[{''.join(map(re.escape, SPOKEN))}]", lambda m: SPOKEN[m[0]]),
)
