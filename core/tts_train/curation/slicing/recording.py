"""Cuts one recording: from its file to clips in a folder of their own and a plain account, which is kept by content."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from tts_train.corpus.audio.containers import AudioRejected
from tts_train.curation.folder import CLIPS
from tts_train.curation.slicing.clips import SUFFIX, write_clips
from tts_train.curation.slicing.cues import group_by_cues
from tts_train.curation.slicing.grouping import TOO_SHORT, Lengths, SpeechGroup, group
from tts_train.curation.slicing.placing import NO_SUBTITLE, account_samples, place
from tts_train.curation.slicing.subtitles import Subtitles, read_subtitles
from tts_train.curation.speech.detectors import DETECTORS, make_detector
from tts_train.curation.speech.edges import Edges, find_edges
from tts_train.curation.speech.hearing import HeardSound, hear
from tts_train.disk.files import hash_file, write_json

VERSION = 1
"""Raised when the same recording gives other cuts, so that those that were made are not used again."""
_PLACES = 7
"""Digits of milliseconds in a name: nearly three hours sort as they should, and longer ones are longer."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file that is to be cut."""

    path: Path
    name: str
    """As the ledger names it."""
    stem: str
    """What its clips' names begin with; no other recording has it."""
    subtitles: tuple[Path, str | None] | None = None
    """The file beside it, and the language that its name says."""
    speaker: str | None = None
    applied: str = ""
    """Key of the cuts whose clips are in place."""


@dataclass(frozen=True, kw_only=True)
class CutClip:
    """One clip that was cut; positions in samples."""

    audio: str
    start: int
    end: int
    lead: float
    tail: float
    text: str = ""
    speaker: str | None = None


@dataclass(frozen=True, kw_only=True)
class CutRecording:
    """What became of one recording."""

    key: str = ""
    """Of its content and of all that the cuts depend on; empty if it could not be read."""
    hash: str = ""
    rate: int = 0
    frames: int = 0
    clips: list[CutClip] = field(default_factory=list)
    fates: Mapping[str, int] = field(default_factory=dict)
    """Samples that are in no clip."""
    warnings: list[str] = field(default_factory=list)
    odd: Mapping[str, list[int]] = field(default_factory=dict)
    """Numbers of cues by what was odd about them."""
    language: str | None = None
    """That the subtitles' name says."""
    refused: str = ""
    detail: str = ""
    reused: bool = False

    @classmethod
    def read(cls, file: Path) -> CutRecording | None:
        """Return what :func:`slice_recording` wrote; None if it is not there, or was cut short."""
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            clips = [CutClip(**one) for one in found.pop("clips")]
            return cls(clips=clips, **found)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def slice_recording(
    recording: Recording,
    *,
    out: Path,
    work: Path,
    lengths: Lengths,
    detector: str,
    told: Callable[[float], None] | None = None,
) -> CutRecording:
    """Cut a recording into ``work/KEY``, or take what the same recording and settings gave before.

    Args:
        recording: the file.
        out: the corpus folder, where clips of earlier commands lie.
        work: folder for what is finished.
        lengths: what an utterance may be.
        detector: name of the detector of speech.
        told: called with seconds of sound as they are read; each second is read twice.
    """
    try:
        # By content, not by time or place: a copy, or a folder that was moved, is not cut again.
        content = hash_file(recording.path)
        # Its name, too: that says the format and the language.
        beside = (hash_file(recording.subtitles[0]), recording.subtitles[0].name) if recording.subtitles else None
    except OSError as error:
        return CutRecording(refused="unreadable", detail=f"{recording.path.name}: {error.strerror}")
    # The names are part of it, for clips carry them; speaker and language are not, for they are written later.
    about = [VERSION, DETECTORS[detector].version, asdict(lengths), detector]
    key = xxhash.xxh3_128_hexdigest(json.dumps([content, beside, recording.stem, recording.name, *about]).encode())
    staged = work / key
    known = CutRecording.read(work / f"{key}.json")
    # Clips are in place, or wait here for tables that were not written before a kill.
    places = (staged, out) if recording.applied == key else (staged,)
    if known and all(any((place / one.audio).is_file() for place in places) for one in known.clips):
        return CutRecording(**{**vars(known), "reused": True})
    try:
        # Nothing of a recording that turns out to be damaged in its last minute is used.
        found = _cut(recording, staged, lengths, detector, told)
    except AudioRejected as rejected:
        return CutRecording(hash=content, refused=rejected.reason, detail=rejected.detail)
    found = CutRecording(**{**vars(found), "key": key, "hash": content})
    # Behind the clips: where this file is, they are.
    write_json(work / f"{key}.json", {**vars(found), "clips": [asdict(one) for one in found.clips]})
    return found


def _cut(
    recording: Recording, staged: Path, lengths: Lengths, detector: str, told: Callable[[float], None] | None
) -> CutRecording:
    heard = hear(recording.path, make_detector(detector), told=told)
    edges = find_edges(heard)
    groups, subtitles, odd = _groups(recording, heard, edges, lengths)
    # Also groups that become no row are given: a margin must not reach into their words.
    pieces = place(groups, heard, lengths)
    clips = [
        CutClip(
            audio=f"{CLIPS}/{recording.stem}-{one.start * 1000 // heard.rate:0{_PLACES}d}{SUFFIX}",
            start=one.start,
            end=one.end,
            lead=round(one.lead, 3),
            tail=round(one.tail, 3),
            text=one.text,
            speaker=one.speaker,
        )
        for one in pieces
    ]
    (staged / CLIPS).mkdir(parents=True, exist_ok=True)
    # The second pass: what is cut depends on all of the recording, and memory holds none of it.
    if clips:
        write_clips(recording.path, heard, pieces, [staged / one.audio for one in clips], told=told)
    lost = [one for one in groups if one.fate]
    # Without subtitles all speech is in a group; what is left over is a breath between two halves of a margin.
    unclaimed = NO_SUBTITLE if subtitles else TOO_SHORT
    return CutRecording(
        rate=heard.rate,
        frames=heard.frames,
        clips=clips,
        fates=account_samples(heard, edges, pieces, lost, unclaimed=unclaimed),
        warnings=list(dict.fromkeys(heard.warnings)),
        odd=odd,
        language=subtitles.language if subtitles else None,
        detail=_tell(subtitles, odd) if subtitles else "",
    )


def _groups(
    recording: Recording, heard: HeardSound, edges: Edges, lengths: Lengths
) -> tuple[list[SpeechGroup], Subtitles | None, dict[str, list[int]]]:
    if recording.subtitles is None:
        return group(edges.spoken, lengths), None, {}
    file, language = recording.subtitles
    # By the samples that were there: headers of MP3 are off by a frame or two.
    subtitles = read_subtitles(file, language, heard.frames / heard.rate)
    grouped = group_by_cues(subtitles.cues, edges, heard, lengths)
    return grouped.groups, subtitles, {**subtitles.odd, **grouped.odd}


def _tell(subtitles: Subtitles, odd: Mapping[str, list[int]]) -> str:
    """Name the cues that are not rows as they stand; the first dozen of each kind."""
    kinds = [f"{kind}: cues {', '.join(map(str, cues[:12]))}{' ...' * (len(cues) > 12)}" for kind, cues in odd.items()]
    return f"{subtitles.file.name}: {'; '.join(kinds) or 'all cues are used'}"
