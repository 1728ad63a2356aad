"""Brings the sound of rows into a corpus folder: whole files as they are, stretches cut out without loss."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unicodedata import normalize

import soundfile
import xxhash

from tts_train.corpus import RowRejected, read_audio
from tts_train.corpus.audio.read import Audio
from tts_train.corpus.rows.names import bare_name, printable_name
from tts_train.curation.exchange.sources import Piece
from tts_train.curation.folder import CLIPS, REFERENCES, WORK
from tts_train.curation.job import CorpusJob
from tts_train.disk.files import TEMPORARY, hash_file, patiently, temporary_beside, write_json
from tts_train.progress import Progress
from tts_train.sound import whole_numbers

Brought: TypeAlias = "dict[str, Any]"
"""``audio``, ``seconds``, ``content`` and ``linked`` of a clip, ``reference`` where it has one; or ``error``,
``detail``, and ``seconds`` if known."""

NAME = "merge"
"""Folder below ``.work`` that keeps results."""
_CHUNK = 16
_ODD = re.compile(r"[^\w.+-]+")
_LONGEST_STEM = 60
_SIXTEEN = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")
_FLOATS = ("FLOAT", "DOUBLE", "PCM_32")


def bring(pieces: Sequence[Piece], out: Path, *, link: bool, job: CorpusJob) -> list[Brought]:
    """Make a clip of each row, in order; what an earlier command made is taken as it is.

    Args:
        pieces: the rows.
        out: the corpus folder.
        link: link whole files instead of copying them.
        job: says how many processes work, and where.

    Raises:
        Interrupted: when asked to stop; finished chunks are kept.
    """
    from tts_train.parallel.chunks import cut, run_chunks, run_chunks_on_ray
    from tts_train.parallel.processes import set_worker

    # By origin: rows go through processes, and no object is the same in two of them.
    lost: set[str] = set()
    chunks = list(cut(pieces, size=_CHUNK, key=lambda piece: piece.origin))
    referring = any(piece.reference for piece in pieces)
    for folder in (out / CLIPS, out / WORK / NAME, *([out / REFERENCES] if referring else ())):
        folder.mkdir(parents=True, exist_ok=True)
        # Of a command that was killed while it wrote; the folder is held, so nobody is writing now.
        for half in folder.glob(f"{TEMPORARY}*"):
            half.unlink()
    task = partial(_brought, out=out, link=link)
    if job.engine == "ray":
        results = run_chunks_on_ray(task, chunks, workers=job.workers)
    else:
        drop = partial(_add_origin, lost)
        results = run_chunks(task, chunks, workers=job.workers, setup=set_worker, lost=drop)
    found: list[Brought] = []
    with Progress("Merging", len(pieces)) as progress:
        for chunk, result in zip(chunks, results, strict=True):
            told = iter(result)
            died = {"error": "decode_crash", "detail": "the process that read it died", "seconds": 0.0}
            found += [died if piece.origin in lost else next(told) for piece in chunk]
            progress.advance(len(chunk))
    return found


def _add_origin(lost: set[str], piece: Piece) -> None:
    lost.add(piece.origin)


def _brought(pieces: list[Piece], *, out: Path, link: bool) -> list[Brought]:
    # What was asked and what it was asked of: a file that changed is brought again, as are rows that moved.
    asked = [
        [piece.origin, _content(piece.audio), piece.start, piece.end, link]
        + ([_content(piece.reference)] if piece.reference else [])
        for piece in pieces
    ]
    key = xxhash.xxh3_128_hexdigest(json.dumps(asked).encode())
    file = out / WORK / NAME / f"{key}.json"
    if (known := _known(file, out, len(pieces))) is not None:
        return known
    found = [{**_clip(piece, out, link=link), **_reference(piece, out, link=link)} for piece in pieces]
    write_json(file, found)
    return found


def _content(file: Path) -> str | None:
    try:
        return hash_file(file)
    # Missing, a folder, not to be read: reading it says which.
    except OSError:
        return None


def _known(file: Path, out: Path, count: int) -> list[Brought] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    # Not there, or cut short by a full disk: the clips are made again.
    except (OSError, ValueError):
        return None
    if not isinstance(found, list) or len(found) != count:
        return None
    # A clip that somebody deleted since is made again.
    files = [one[name] for one in found for name in ("audio", "reference") if name in one]
    return found if all((out / file).is_file() for file in files) else None


def _reference(piece: Piece, out: Path, *, link: bool) -> Brought:
    """Put a row's reference beside the clips, once for all rows that name it."""
    if piece.reference is None:
        return {}
    content = hash_file(piece.reference)
    stem = plain_stem(bare_name(printable_name(piece.reference.name))).removesuffix(f"-{content[:12]}")
    name = f"{REFERENCES}/{stem or 'reference'}-{content[:12]}{piece.reference.suffix.lower()}"
    _place(piece.reference, out / name, link=link)
    return {"reference": name}


def _clip(piece: Piece, out: Path, *, link: bool) -> Brought:
    whole = piece.start is None and piece.end is None
    try:
        audio = read_audio(piece.audio, start=piece.start, end=piece.end, root=piece.root, keep_raw=not whole)
    except RowRejected as rejected:
        return {"error": rejected.reason, "detail": rejected.detail, "seconds": _length(piece)}
    # As it is, in whatever format: a lossy file that is decoded and encoded again would lose once more.
    if whole:
        content = hash_file(piece.audio)
        name = _name(piece, content, piece.audio.suffix.lower())
        linked = _place(piece.audio, out / name, link=link)
        return {"audio": name, "seconds": audio.seconds, "content": content, "linked": linked}
    suffix, data = _cut_out(audio, piece.audio)
    content = xxhash.xxh3_128_hexdigest(data)
    name = _name(piece, content, suffix)
    _write(out / name, data)
    return {"audio": name, "seconds": audio.seconds, "content": content, "linked": False}


def _length(piece: Piece) -> float:
    """Seconds of a row that cannot be used, 0 where nothing tells."""
    if piece.start is not None and piece.end is not None:
        return piece.end - piece.start
    try:
        seconds = float(soundfile.info(piece.audio).duration)
    except (OSError, RuntimeError, TypeError, UnicodeError):
        return 0.0
    # Headers of damaged files claim anything: a day is more than any recording has.
    return round(max(0.0, seconds - (piece.start or 0.0)), 3) if 0 <= seconds < 86_400 else 0.0


def _name(piece: Piece, content: str, suffix: str) -> str:
    """Return a clip's name: the recording's, in letters that every file system takes, and its content's."""
    # A clip of a merged folder has its content in its name already.
    stem = plain_stem(piece.row.audio).removesuffix(f"-{content[:12]}")
    # By content: names that differ in case alone, or not at all, keep apart, and the same command finds its clips.
    return f"{CLIPS}/{stem or 'clip'}-{content[:12]}{suffix}"


def plain_stem(name: str) -> str:
    """Return a name in letters, digits and marks that every file system and every table takes; it may be empty."""
    return _ODD.sub("_", normalize("NFC", printable_name(name))).strip("._")[:_LONGEST_STEM]


def _place(source: Path, target: Path, *, link: bool) -> bool:
    """Put a whole file under its new name; returns whether it is a link to the source's."""
    # Names have their content in them, so a file of this name and size is this file.
    if target.is_file() and target.stat().st_size == source.stat().st_size and (link or not target.samefile(source)):
        return target.samefile(source)
    if link:
        try:
            os.link(source, target)
        # Another file system, or one without hard links.
        except OSError:
            pass
        else:
            return True
    temporary = temporary_beside(target)
    shutil.copyfile(source, temporary)
    patiently(lambda: temporary.replace(target))
    return False


def _write(target: Path, data: bytes) -> None:
    if target.is_file() and target.stat().st_size == len(data):
        return
    temporary = temporary_beside(target)
    temporary.write_bytes(data)
    patiently(lambda: temporary.replace(target))


def _cut_out(audio: Audio, source: Path) -> tuple[str, bytes]:
    """Return the suffix and the bytes of a stretch, with the samples and channels as decoded."""
    import io

    from tts_train.corpus.layouts.jsonl import encode_array

    assert audio.raw is not None
    coding = _coding(source)
    # libsndfile would put the time into a WAV of floats, and the same stretch would be another file each time.
    if coding in _FLOATS:
        return ".wav", encode_array({"array": audio.raw, "sampling_rate": audio.source_rate})
    # FLAC holds whole numbers alone; what is lossy has no more than 16 bits to lose.
    bits: Literal[16, 24] = 16 if coding in _SIXTEEN or not coding.startswith("PCM") else 24
    file = io.BytesIO()
    soundfile.write(file, whole_numbers(audio.raw, bits), audio.source_rate, format="FLAC", subtype=f"PCM_{bits}")
    return ".flac", file.getvalue()


def _coding(source: Path) -> str:
    """Return what libsndfile calls a file's coding; empty for formats that it does not read, which are lossy."""
    try:
        return str(soundfile.info(source).subtype)
    except (OSError, RuntimeError, TypeError, UnicodeError):
        return ""
