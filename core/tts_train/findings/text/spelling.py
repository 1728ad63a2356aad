"""From letters to sounds, in five languages, as closely as the sounds of English can tell them.

Each table is read from the top at every letter; the first pattern that fits there wins, and what it takes is gone. An
empty list is a letter that is not heard. ``B/V`` is whichever of the two fits the sound better. The facts are those of
the languages' spelling, as in Wikipedia's "Spanish orthography", "Italian orthography", "French orthography",
"Russian orthography" and "English orthography"; how a vowel of theirs is heard by a model of English was tried out.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Table: TypeAlias = "tuple[tuple[str, str], ...]"

_COMMON: Table = (
    ("b+", "B"), ("[ck]+", "K"), ("d+", "D"), ("f+", "F"), ("g+", "G"), ("l+", "L"), ("m+", "M"), ("n+", "N"),
    ("p+", "P"), ("t+", "T"), ("x", "K S"),
)  # fmt: skip

# For words that the dictionary does not have: names above all.
_ENGLISH: Table = (
    ("tion", "SH AH N"), ("ght", "T"), ("igh", "AY"), ("tch|ch", "CH"), ("sh", "SH"), ("th", "TH/DH"), ("ph", "F"),
    ("wh", "W"), ("ck", "K"), ("ng", "NG"), ("qu", "K W"), ("ee|ea", "IY"), ("oo", "UW"), ("ou|ow", "AW/OW"),
    ("oi|oy", "OY"), ("ai|ay", "EY"), ("au|aw", "AO"), ("er|ir|ur", "ER"), ("ar", "AA R"), ("or", "AO R"),
    ("c+(?=[eiy])", "S"), ("g+(?=[eiy])", "JH/G"), ("(?<=..)e$", ""), ("a", "AE/EY/AH"), ("e", "EH/IY/AH"),
    ("i", "IH/AY"), ("o", "AA/OW/AH"), ("u", "AH/UW"), ("y$", "IY"), ("y", "Y/IH"), ("h", "HH"), ("j", "JH"),
    ("q", "K"), ("r+", "R"), ("s+", "S/Z"), ("v+", "V"), ("w", "W"), ("z+", "Z"), *_COMMON,
)  # fmt: skip

# Of the Americas: c and z are s, ll is y.
_SPANISH: Table = (
    ("ch", "CH"), ("ll", "Y/JH"), ("gu(?=[eiéí])", "G"), ("g(?=[eiéí])", "HH"), ("gü", "G W"), ("qu", "K"),
    ("cc(?=[eiéí])", "K S"), ("c(?=[eiéí])", "S"), ("rr", "R"), ("y(?![aeiouáéíóú])", "IY"), ("y", "Y/JH"), ("h", ""),
    ("[aá]", "AA/AH"), ("[eé]", "EH/EY"), ("[ií]", "IY"), ("[oó]", "OW/AO"), ("u(?=[aeoáéó])", "W"), ("[uúü]", "UW"),
    ("[bv]", "B/V"), ("d", "D/DH"), ("j", "HH"), ("ñ", "N Y"), ("r", "R/D"), ("s+|z", "S"), ("w", "W"), *_COMMON,
)  # fmt: skip

_ITALIAN: Table = (
    ("sch", "S K"), ("sci(?=[aouàòù])", "SH"), ("sc(?=[eièéì])", "SH"), ("cc?i(?=[aouàòù])", "CH"),
    ("cc?(?=[eièéì])", "CH"), ("cc?h", "K"), ("gli(?=[aeouàòù])", "L Y"), ("gli", "L IY"), ("gn", "N Y"),
    ("gg?i(?=[aouàòù])", "JH"), ("gg?(?=[eièéì])", "JH"), ("gg?h", "G"), ("c?qu", "K W"), ("zz?", "T S/Z"), ("h", ""),
    ("i(?=[aeou])", "Y/IY"), ("u(?=[aeioàèéìò])", "W"), ("[aà]", "AA/AH"), ("[eèé]", "EH/EY"), ("[iìíy]", "IY"),
    ("[oò]", "OW/AO"), ("[uùú]", "UW"), ("j", "JH/Y"), ("r+", "R/D"), ("(?<=[aeiou])s(?=[aeiou])", "S/Z"), ("s+", "S"),
    ("v+", "V"), ("w", "W/V"), *_COMMON,
)  # fmt: skip

_VOWELS = "aeiouyàâäéèêëîïôöùûüœ"
# A nasal vowel is heard as the plain one beside it; final consonants are silent but for c, f, l and r.
_FRENCH: Table = (
    ("eaux?$|eau|aux?$|au", "OW/AO"), ("oin", "W AE"), ("oi|oî", "W AA"), ("o[uùû]", "UW"),
    (f"[aeo]?ill(?=[{_VOWELS}])", "Y/IY"), ("(?<=[ae])il$", "Y"), ("tion", "S Y OW/AO"),
    (f"(?:ai|ei|i|y)[nm](?![{_VOWELS}nm])", "AE/EH"), (f"(?<=[iy])en(?![{_VOWELS}nm])", "AE/EH"), ("ent$", ""),
    (f"[ae][nm](?![{_VOWELS}nm])", "AA/AO"), (f"o[nm](?![{_VOWELS}nm])", "OW/AO"), (f"un(?![{_VOWELS}nm])", "AH/AE"),
    ("e[rz]$", "EY"), ("et$", "EY/EH"), ("est$", "EH"), ("es?$", ""), ("a[iî]|ei", "EH/EY"), ("[eœ]u|œ", "ER/AH"),
    ("é", "EY/EH"), ("[èêë]", "EH"), (f"e(?=[^{_VOWELS}]{{2}})", "EH"), ("e", "AH/EH"), ("[aàâ]", "AA/AE"),
    (f"[iîï](?=[{_VOWELS}])", "Y/IY"), ("[iîïy]", "IY"), ("[oôö]", "AO/OW"), (f"[uùûü](?=[{_VOWELS}])", "W/Y"),
    ("[uùûü]", "UW/IY"), ("ch", "SH"), ("gn", "N Y"), ("ph", "F"), ("qu?", "K"), ("ç|c(?=[eiyéèêî])", "S"),
    ("gu(?=[eiyéè])", "G"), ("ge(?=[aoâ])|g(?=[eiyéèê])", "ZH"), ("j", "ZH"), ("h", ""),
    ("(?:[dtpxz]|ts|ds|ps|s)$", ""), (f"(?<=[{_VOWELS}])s(?=[{_VOWELS}])", "Z"), ("r+", "R/HH"), ("s+", "S"),
    ("v", "V"), ("w", "W"), ("z", "Z"), *_COMMON,
)  # fmt: skip

_BEHIND_CONSONANT = "(?<=[бвгджзклмнпрстфхцчшщ])"
# Without the stress, o may be any of its sounds.
_RUSSIAN: Table = (
    ("(?<=[ое])го$", "V AH/OW"), ("тс?ься$|тся$", "T S AH/AA"), ("сч|щ", "SH"), ("стн", "S N"), ("чт(?=о)", "SH T"),
    ("а", "AA/AH"), ("б$", "P"), ("б+", "B"), ("в$", "F"), ("в", "V/F"), ("г$", "K"), ("г", "G"), ("д$", "T"),
    ("д+", "D"), (f"{_BEHIND_CONSONANT}е", "EH/IH"), ("е", "Y EH/IY"), ("ё", "Y/IY OW/AO"), ("ж$", "SH"), ("ж+", "ZH"),
    ("з$", "S"), ("з+", "Z"), ("и", "IY/IH"), ("й", "Y/IY"), ("к+", "K"), ("л+", "L"), ("м+", "M"), ("н+", "N"),
    ("о", "AO/AA/AH/OW"), ("п+", "P"), ("р+", "R/D"), ("с+", "S"), ("т+", "T"), ("у", "UW/UH"), ("ф+", "F"),
    ("х+", "HH/K"), ("ц+", "T S"), ("ч", "CH"), ("ш+", "SH"), ("[ъь]", ""), ("ы", "IH/IY"), ("э", "EH"),
    (f"{_BEHIND_CONSONANT}ю", "UW"), ("ю", "Y UW"), (f"{_BEHIND_CONSONANT}я", "AA/AH/IY"), ("я", "Y AA/IH"),
)  # fmt: skip

TABLES: dict[str, Table] = {
    "en": _ENGLISH, "es": _SPANISH, "fr": _FRENCH, "it": _ITALIAN, "ru": _RUSSIAN,
}  # fmt: skip
"""By language."""

NUMBERS: dict[str, tuple[str, ...]] = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "es": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez"),
    "fr": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix"),
    "it": ("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove", "dieci"),
    "ru": ("ноль", "один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять", "десять"),
}
"""Words of 0 to 10."""

# Once: a corpus has hundreds of thousands of words.
_COMPILED = {
    language: tuple((re.compile(pattern), tuple(sounds.split())) for pattern, sounds in table)
    for language, table in TABLES.items()
}


def spelt(word: str, language: str) -> tuple[str, ...]:
    """Return the sounds of a word in lower case; letters that the table does not have are left out."""
    sounds: list[str] = []
    place = 0
    while place < len(word):
        matches = ((pattern.match(word, place), heard) for pattern, heard in _COMPILED[language])
        match, heard = next(((match, heard) for match, heard in matches if match), (None, ()))
        sounds += heard
        place = match.end() if match else place + 1
    return tuple(sounds)
