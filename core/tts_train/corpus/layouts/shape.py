"""The shape of a text table: separator, quoting, columns; and rows fitted to it, read whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tts_train.corpus.layouts.guess import Unclear, ends_sentence, guess_columns, is_language, is_text
from tts_train.corpus.layouts.records import MARKS, cut, is_quoted
from tts_train.corpus.rows.columns import UNUSED, Asked, describe, match_columns
from tts_train.corpus.rows.names import is_audio
from tts_train.errors import DataError

_LIST = ("audio", "speaker", "language", "text")
_CLEANED_LIST = (*_LIST, UNUSED, UNUSED, UNUSED)


@dataclass
class Shape:
    """How a table is read."""

    mark: str
    quoted: bool
    columns: list[str]
    """Meaning of each column, or its name in parentheses where it is not used."""
    header: bool
    told: str = ""
    """What the columns were taken for, in words."""
    joins: bool = True
    """Whether a row with more fields may be one whose text holds the separator."""
    speakers: set[str] = field(default_factory=set)
    """Names in rows of the right width, as far as they were read."""

    def fit(self, fields: list[str], *, plain: bool) -> list[str] | str:
        """Return the fields of a row, one for each column, or what is wrong with it.

        Separators inside the text are put back where that is certain: there is one text, nothing was quoted, and
        what stands behind it is what its columns hold elsewhere.
        """
        width, texts = len(self.columns), self._texts()
        if len(fields) > width and not any(map(str.strip, fields[width:])):
            fields = fields[:width]
        if len(fields) > width and plain and self.joins and len(texts) == 1:
            at, behind = texts[0], width - 1 - texts[0]
            tail = fields[len(fields) - behind :] if behind else []
            said = fields[at : len(fields) - behind]
            if all(map(self._belongs, self.columns[at + 1 :], tail)) and (behind or _is_one_text(said)):
                return [*fields[:at], self.mark.join(said), *tail]
        if len(fields) != width:
            hint = (
                "" if len(fields) < width or self.mark == "|" else "; a text with the separator needs quotation marks"
            )
            return f"{len(fields)} fields, not {width} ({self.mark.join(self.columns)}){hint}"
        if "speaker" in self.columns:
            # A field behind the text is believed to be a speaker only where another row has that name.
            self.speakers.add(fields[self.columns.index("speaker")].strip())
        return fields

    def is_row(self, line: str) -> bool:
        """Tell whether a line alone looks like a whole row."""
        fields = line.split(self.mark)
        if len(fields) < len(self.columns):
            return False
        name = fields[self.columns.index("audio")].strip().strip('"')
        return is_audio(name.replace("\\", "/").rpartition("/")[2]) or (bool(name) and not any(map(str.isspace, name)))

    def _texts(self) -> list[int]:
        return [number for number, name in enumerate(self.columns) if name in ("text", "normalised")]

    def _belongs(self, meaning: str, value: str) -> bool:
        if meaning == "speaker":
            return value.strip() in self.speakers
        return meaning == "language" and is_language(value)


def _is_one_text(pieces: Sequence[str]) -> bool:
    """Behind the end of a sentence, and with no blank between, stands rather another column than more of the text."""
    apart = (not one or one[-1:].isspace() or other[:1].isspace() for one, other in pairwise(pieces))
    return all(blank or not ends_sentence(one) for blank, one in zip(apart, pieces, strict=False))


def read_shape(lines: Sequence[str], asked: Asked, where: str, *, is_list: bool) -> Shape:
    """Tell the shape of a table by its first lines.

    Args:
        lines: at least one.
        asked: what ``--corpus_format`` says.
        where: the table, for messages.
        is_list: whether ``path|speaker|language|text`` is what such files usually hold.

    Raises:
        DataError: if it is not certain what a column is; it says how to name the columns.
    """
    shape = _with_header(lines, asked, where) or _without_header(lines, asked, where, is_list)
    rows = [cut(line, shape.mark, quoted=shape.quoted) for line in lines[shape.header :]]
    for row in rows:
        if len(row) == len(shape.columns):
            shape.fit(row, plain=False)
    _require_usual_width(rows, shape, where)
    if not shape.told:
        shape.told = shape.mark.join(shape.columns).replace("\t", " TAB ") + (
            " (header not used)" if shape.header else ""
        )
    return shape


def split_header(line: str, mark: str, asked: Mapping[str, str] | None = None) -> list[str] | None:
    """Return the meanings of a header's columns, or None if the line is no header."""
    names = _names(line, mark)
    columns = match_columns(names, asked)
    if "audio" not in columns or not {"text", "normalised"} & set(columns):
        return None
    known = {actual: meaning for meaning, actual in columns.items()}
    return [known.pop(name, f"({name})") for name in names]


def _names(header: str, mark: str) -> list[str]:
    return [name.strip().strip('"').strip() for name in cut(header, mark, quoted=True)]


def _with_header(lines: Sequence[str], asked: Asked, where: str) -> Shape | None:
    found = [(mark, columns) for mark in MARKS if (columns := split_header(lines[0], mark, asked.names))]
    # A header that holds another mark in a name is cut by both; the right one gives more columns that are known.
    mark, columns = max(found, key=lambda one: len(one[1]), default=("", []))
    if asked.names:
        absent = [name for name in asked.names.values() if name not in lines[0]]
        if absent or not columns:
            raise DataError(f"{where} begins with {lines[0][:200]!r}: no column {', '.join(absent or asked.names)}.")
    if not columns:
        return None
    names = _names(lines[0], mark)
    known = match_columns(names, asked.names)
    twice = [name for name in known.values() if names.count(name) > 1]
    if twice and not asked.columns:
        raise _ask(f"The header of {where} has {', '.join(twice)} twice", names)
    told = "" if asked.columns else describe({name: meaning for meaning, name in known.items()}, names)
    columns = list(asked.columns) or columns
    return Shape(mark, mark in ",;" or is_quoted(lines, mark), columns, header=True, told=told)


def _without_header(lines: Sequence[str], asked: Asked, where: str, is_list: bool) -> Shape:
    mark = _mark(lines, len(asked.columns))
    quoted = mark in ",;" or is_quoted(lines, mark)
    rows = [cut(line, mark, quoted=quoted) for line in lines]
    if asked.columns:
        return Shape(mark, quoted, list(asked.columns), header=False)
    if _is_unknown_header(rows[0]):
        raise _ask(f"{where} has a header that does not say which column is audio and which text", rows[0], named=True)
    if mark in ",;":
        raise _ask(f"{where} has {'commas' if mark == ',' else 'semicolons'} and no header", rows[0])
    counts = Counter(map(len, rows))
    usual = len(_LIST) if is_list else 0
    # Of two that are equally frequent the usual one, then the smaller: longer rows may hold the mark in a text.
    width = min(counts, key=lambda count: (-counts[count], count != usual, count))
    if width == 1:
        raise DataError(
            f"Most rows of {where} have no | , ; and no tab between fields, as in {lines[0][:80]!r}. Each row needs "
            "the name of an audio file, such a mark, and the text. JSON lines are read with --corpus_format jsonl."
        )
    if counts[width] * 2 < len(rows):
        spread = ", ".join(f"{count} in {times}" for count, times in sorted(counts.items()))
        raise _ask(f"The rows of {where} differ in their number of fields ({spread} rows)", rows[0])
    whole = [row for row in rows if len(row) == width]
    if convention := _convention(whole, is_list):
        return Shape(mark, quoted, convention, header=False)
    try:
        return Shape(mark, quoted, guess_columns(whole), header=False)
    except Unclear as unclear:
        raise _ask(f"{where} has {width} columns and no header, and {unclear}", whole[0]) from None


def _convention(rows: Sequence[Sequence[str]], is_list: bool) -> list[str] | None:
    """Layouts that are known by their width: lists of four fields, and the same with phones, tones and word2ph."""
    # Four fields are no proof: path|text|speaker|language has as many. The third column tells.
    third = [row[2] for row in rows if len(row) > 2 and row[2].strip()]
    languages = sum(map(is_language, third)) * 2 >= len(rows)
    if len(rows[0]) == len(_CLEANED_LIST) and languages:
        return list(_CLEANED_LIST)
    if not is_list or len(rows[0]) != len(_LIST) or is_text(third):
        return None
    first, second, _, last = zip(*rows, strict=True)
    if not languages and any(all(map(is_language, column)) for column in (first, second, last)):
        return None
    # Speakers come again; what says something else in each row, where the last column says nothing, is the text.
    texts_second = is_text(second) and not is_text(last) and len(set(second)) * 2 > len(rows)
    return None if texts_second else list(_LIST)


def _mark(lines: Sequence[str], width: int) -> str:
    """The separator of most lines; where the number of columns is known, the one that gives it most often."""
    if width:
        return max(MARKS, key=lambda mark: sum(len(cut(line, mark, quoted=True)) == width for line in lines))
    return next((mark for mark in MARKS if sum(mark in line for line in lines) * 2 > len(lines)), MARKS[0])


def _is_unknown_header(fields: Sequence[str]) -> bool:
    """Tell whether a first row is made of names of columns, some of which are not known."""
    names = [name.strip().strip('"') for name in fields]
    if not all(name.replace("_", "").replace(" ", "").replace("-", "").isalpha() for name in names):
        return False
    known = set(match_columns(names).values())
    return len(names) > 1 and (len(known) > 1 or bool(match_columns(names[:1])))


def _require_usual_width(rows: Sequence[Sequence[str]], shape: Shape, where: str) -> None:
    """A text that holds the separator is rare, and no two end alike; else a column was forgotten."""
    width = len(shape.columns)
    longer = [row for row in rows if len(row) > width and any(map(str.strip, row[width:]))]
    if not longer:
        return
    # In a sentence a blank follows a comma; between fields it seldom does.
    spoken = shape.mark in ",;" and all(value[:1].isspace() for row in longer for value in row[width:])
    usual, times = Counter(map(len, rows)).most_common(1)[0]
    if times * 2 > len(rows) and usual > width and not spoken:
        fault = f"Most rows of {where} have {usual} fields, {width} are known"
        fault += " (a text that holds the separator needs quotation marks)"
        raise _ask(fault, next(row for row in rows if len(row) == usual))
    ends = Counter(row[-1].strip() for row in longer)
    shape.joins = spoken or len(ends) == len(longer) or shape.columns[-1] not in ("text", "normalised")


def _ask(fault: str, row: Sequence[str], *, named: bool = False) -> DataError:
    shown = ", ".join(f"{number} {value.strip()[:60]!r}" for number, value in enumerate(row[:12], start=1))
    example = "|".join(["audio", "speaker", "text", *[UNUSED] * 9][: max(3, min(len(row), 12))])
    if len(row) == 2:
        example = "audio|text"
    how = f"--corpus_format '{example}' (audio, text, normalised, speaker, language, start, end; - for one not used)"
    if named:
        how = "--corpus_format 'audio=NAME,text=NAME,speaker=NAME' with the names in the header"
    else:
        how = f"{how}, or put a header such as file_name{',' if len(row) == 2 else ',speaker,'}text first"
    return DataError(f"{fault}. A row: {shown}. Say what each column is: {how}.")
