"""Which column means what: under the names that corpora use, or as ``--corpus_format`` says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from tts_train.errors import DataError

COLUMNS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "audio": (
            "audio", "audiofile", "audiofilepath", "audiopath", "audiofilename", "filename", "file", "filepath", "path",
            "wav", "wavpath", "wavfile", "wavfilename", "wavfilepath", "wavname", "soundfile", "soundpath", "recording",
            "clip", "clippath", "clipname", "audioid", "wavid", "uttid", "utteranceid", "fileid", "id", "name",
            "fname", "datei", "dateiname", "fichier", "archivo", "arquivo", "файл", "文件", "文件名", "音频",
            "ファイル", "ファイル名", "파일", "파일명",
        ),
        "text": ("text", "transcription", "transcript", "sentence", "rawtext", "rawtranscription", "textoriginal",
                 "originaltext", "utterance", "caption", "txt", "targettext", "content", "subtitle", "transkript",
                 "transkription", "texte", "texto", "transcripción", "transcrição", "testo", "текст", "文本",
                 "テキスト", "텍스트"),
        "normalised": ("normalizedtext", "normalisedtext", "textnormalized", "textnormalised", "normalized",
                       "normalised", "normalizedtranscription", "normalizedtranscript", "normtext", "textnorm"),
        "speaker": ("speaker", "speakername", "speakerid", "source", "voice", "spk", "spkid", "spkname", "spkr",
                    "spkrid", "voicename", "voiceid", "character", "charactername", "narrator", "reader", "readerid",
                    "actor", "singer", "clientid", "speakers", "speakerlabel", "spkrname", "userid", "sprecher",
                    "locuteur", "hablante", "locutor", "falante", "диктор", "说话人", "話者", "화자"),
        "language": ("language", "lang", "locale", "languageid", "langid", "languagecode", "langcode", "sprache",
                     "langue", "idioma", "язык", "语言", "言語", "언어"),
        # How a row is spoken, in words, as data sets with described styles call it. A column "style" holds labels, such
        # as "default", which instruct nobody.
        "instruct": ("instruct", "instruction", "instructtext", "styleprompt", "styledescription", "textdescription",
                     "emotiontextprompt"),
        "reference": ("refaudio", "reference", "referenceaudio", "refaudiopath", "referenceaudiopath", "refwav",
                      "refwavpath", "refpath", "promptaudio", "promptwav", "promptaudiopath", "promptwavpath"),
        # No shorter name: codes of other codecs are called codes.
        "codes": ("audiocodes",),
        "start": ("start", "offset", "starttime", "begin", "begintime"),
        "end": ("end", "endtime"),
        "duration": ("duration",),
        "rate": ("samplingrate", "samplerate"),
        "split": ("split", "subset", "partition", "set", "fold"),
        "input_ids": ("input_ids",),
        "attention_mask": ("attention_mask",),
        "labels": ("labels",),
        "loss_mask": ("loss_mask", "completion_mask", "assistant_masks", "assistant_mask"),
    }
)  # fmt: skip
"""Accepted names by meaning, in order of preference; letter case, blanks and marks between words do not count."""

UNUSED = "-"
"""What a column of no use is called."""

_ROWS = (
    "audio", "text", "normalised", "speaker", "language", "instruct", "reference", "codes", "start", "end", "duration",
    "split",
)  # fmt: skip
_BETWEEN_WORDS = re.compile(r"[\W_]+")
_BETWEEN_COLUMNS = re.compile(r"\s*[|,;\t]\s*")


@dataclass(frozen=True)
class Asked:
    """What ``--corpus_format`` says about columns and folders; empty where it names a layout only."""

    columns: tuple[str, ...] = ()
    """Meaning of each column in order, for tables without a header."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Name of the column by meaning, for tables with a header, JSON and Parquet."""
    folders: tuple[str, ...] = ()
    """What the folders above a recording name, the outermost first, as ``speaker`` in ``speaker/audio``."""


def parse_format(given: str) -> Asked | None:
    """Read ``audio|speaker|text``, ``audio=NAME,text=NAME`` or ``speaker/audio``; None if it is none of them.

    Raises:
        DataError: if a word is no meaning of a column, or audio or text is left out.
    """
    if not re.search(r"[|,;\t=/]", given):
        return None
    words = [word for word in _BETWEEN_COLUMNS.split(given.strip())]
    folders: tuple[str, ...] = ()
    # A slash is in names of folders only, so one tells which of the three forms it is.
    if any("/" in word for word in words):
        if len(words) > 1:
            raise DataError(_question(given, "names folders and columns at once"))
        *above, last = words[0].split("/")
        folders = tuple(_meaning(word, given, ("speaker", "language")) for word in above)
        if last != "audio" or not set(folders) - {UNUSED}:
            raise DataError(_question(given, "must end in /audio and name a folder"))
        return Asked(folders=folders)
    named = [word.partition("=") for word in words if "=" in word]
    if named and len(named) < len(words):
        raise DataError(_question(given, "names some columns with = and some without"))
    if named:
        names = {_meaning(left.strip(), given, _ROWS): right.strip() for left, _, right in named}
        return Asked(names=names)
    columns = tuple(_meaning(word, given, _ROWS) for word in words)
    used = [meaning for meaning in columns if meaning != UNUSED]
    if len(set(used)) < len(used):
        raise DataError(_question(given, "gives two columns one meaning"))
    if "audio" not in used or not {"text", "normalised"} & set(used):
        raise DataError(_question(given, "must name audio and text"))
    return Asked(columns=columns)


def _meaning(word: str, given: str, allowed: tuple[str, ...]) -> str:
    if word in ("", "_", UNUSED):
        return UNUSED
    plain = _plain(word)
    found = next((meaning for meaning in allowed if plain == meaning or plain in COLUMNS[meaning]), None)
    if found is None:
        raise DataError(_question(given, f"has {word!r}, which is not one of {', '.join((*allowed, UNUSED))}"))
    return found


def _question(given: str, fault: str) -> str:
    return (
        f"--corpus_format {given!r} {fault}. Give a column for each field in order, as in 'audio|speaker|text' "
        "(- for one that is not used); or columns by their names, as in 'audio=WAV,text=SAID'; or what folders name, "
        "as in 'speaker/audio'."
    )


def match_columns(names: Iterable[str], asked: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return meaning -> actual column name, for the columns whose meaning is known or ``asked`` for."""
    names = tuple(names)
    # A copy: _match is cached, and what it returns must not be changed.
    found = dict(_match(names))
    if not asked:
        return found
    wanted = {meaning: name for meaning, name in asked.items() if name in names}
    # A column that the user gave a meaning has no other by its name.
    taken = set(wanted.values())
    return {meaning: name for meaning, name in found.items() if name not in taken} | wanted


def describe(used: Mapping[str, str], names: Iterable[str]) -> str:
    """Say what named columns were taken for, and which of all ``names`` were not used.

    Args:
        used: meaning by name.
        names: all columns.
    """
    order = {meaning: place for place, meaning in enumerate(COLUMNS)}
    ranked = sorted(used.items(), key=lambda one: order.get(one[1], len(order)))
    told = ", ".join(meaning if meaning == name else f"{meaning} is {name!r}" for name, meaning in ranked)
    unused = ", ".join(repr(name) for name in names if name not in used)
    return told + (f"; not used: {unused}" if unused else "")


# The rows of a JSONL file repeat the same few sets of names a million times.
@lru_cache(maxsize=256)
def _match(names: tuple[str, ...]) -> Mapping[str, str]:
    # Reversed, so that of two columns of one name the first is taken.
    by_plain = {_plain(name): name for name in reversed(names)}
    found: dict[str, str] = {}
    for meaning, accepted in COLUMNS.items():
        if hit := next((by_plain[plain] for plain in map(_plain, accepted) if plain in by_plain), None):
            found[meaning] = hit
    return found


def _plain(name: str) -> str:
    """``speaker_id``, ``Speaker ID`` and ``speakerID`` are one name."""
    return _BETWEEN_WORDS.sub("", name).casefold()
