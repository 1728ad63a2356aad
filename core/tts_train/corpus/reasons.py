"""The fixed words for why a row is dropped and what is odd about a kept one, each with what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_NONE: Mapping[str, str] = MappingProxyType({})

_reasons: dict[str, str] = {
    # The row
    "bad_codes": "The row's codes are not those of the codec; remove them, and the recording is encoded.",
    "bad_row": "The row does not have the shape of its layout; compare it with a row that is read.",
    "bad_segment": "start and end must be seconds with 0 <= start < end, inside the recording; correct them.",
    "bad_tokens": "input_ids must be a non-empty list of whole numbers from 0; tokenise the row again.",
    "conflict": "Other rows give the same audio another text; keep the row whose text is right.",
    "duplicate": "An earlier row has the same audio and text; nothing is lost, remove this one.",
    "empty_text": "The row has no text; transcribe the recording or remove the row.",
    "missing": "There is no such audio file; check the path and the download, or name the folder that holds it.",
    "missing_text": "The recording has no transcript beside it; add NAME.txt or move the recording away.",
    "no_language": "The row names no language; add a column, or say it for all with --language.",
    "not_regular": "The path is a folder, a pipe or a device, not an ordinary file; name the recording itself.",
    "outside_root": "The path leads out of the corpus; move the recording into it, or name the common folder.",
    "punctuation_only": "The text has no letter and no digit; transcribe the recording or remove the row.",
    "text_audio_mismatch": "Far too much or too little text for the length of the audio; check the transcript.",
    "text_encoding": "The transcript is not UTF-8; convert it, for example with iconv.",
    "text_too_long": "The text is longer than any utterance; look for a missing line break.",
    "unknown_language": "The language is none that the backend speaks; remove the row, or correct its code.",
    "unreadable_text": "A character has no reading in the row's language; spell it out or correct the language.",
    "unsupported_script": "The text is in a script that the backend does not speak; remove the row.",
    "bad_subtitles": "The subtitles beside the recording cannot be read; correct them, or give --subtitles false.",
    # Features that another tool made
    "bad_features": "A stored feature does not fit the row; make it again.",
    "missing_features": "A stored feature that is needed is not there; make it again.",
    # The audio
    "clipped": "The recording is overdriven; record it again at a lower level.",
    "decode_crash": "The file kills the decoder; it is damaged or hostile, get another copy.",
    "decode_error": "The file is damaged; get another copy.",
    "empty_audio": "The file holds no audio; record it again or remove the row.",
    "implausible": "The header claims what the file cannot hold; the file is damaged or hostile, get another copy.",
    "needs_av": "This format needs an optional decoder: pip install 'tts-train[av]'.",
    "non_finite": "The samples hold NaN or infinity; export the recording again.",
    "not_audio": "The file is no audio in a format we read; look at what it is (a web page, a git-lfs pointer?).",
    "silent": "There is nothing to hear; record it again or remove the row.",
    "too_long": "The stretch is too long for one utterance; cut it, or give start and end for each sentence.",
    "too_many_channels": "More than two channels; export the voice's channel as mono.",
    "too_short": "The stretch is too short to hold speech; remove the row.",
    "truncated": "The end of the file is missing; copy or download it again.",
    "unreadable": "The operating system does not let us read the file; check its permissions and the disk.",
}
REASONS: Mapping[str, str] = MappingProxyType(_reasons)
"""Every reason a row can be dropped for, and what to do about it; backends declare their own."""

_warnings: dict[str, str] = {
    "anti_phase": "The two channels cancel each other out; the left one was taken.",
    "case_mismatch": "The audio file was found only by ignoring upper and lower case.",
    "clipped": "A part of the samples is at full scale.",
    "codes_unread": "The row's codes are no list of frames with a number for each codebook; they were not read.",
    "dc": "The samples are off centre; the offset was removed.",
    "language_missing": "The row's language is empty.",
    "language_unknown": "The row's language does not look like a language code such as en or zh.",
    "low_bandwidth": "The recording has a sample rate below 16 kHz and will sound dull.",
    "one_sided": "One of the two channels is silent; the other one was taken.",
    "over_full_scale": "Samples go beyond full scale, as lossy formats can; they were left as they are.",
    "path_relocated": "The path is of another machine; the file was found by the end of its path.",
    "recording_missing": "There is no such audio file, and the row's codes stand for it.",
    "reference_missing": "There is no such reference; a backend that needs it drops the row.",
    "speaker_missing": "The row's speaker is empty.",
    "stereo": "The two channels were averaged.",
    "streamed_header": "The header does not know the length, as in streamed files; all that is there was read.",
    "suffix_mismatch": "The file is of another format than its name says; it was read as what it is.",
    "text_cleaned": "Invisible or control characters were taken out of the text.",
    "text_nfc": "The text was composed to Unicode NFC.",
    "unlisted_audio": "An audio file in the corpus is named by no row.",
}
WARNINGS: Mapping[str, str] = MappingProxyType(_warnings)
"""Every warning a kept row can carry, and what was done; backends declare their own."""


def declare_reasons(reasons: Mapping[str, str], *, warnings: Mapping[str, str] = _NONE) -> None:
    """Add reasons to drop a row, and warnings, to those of the core.

    A backend names its reasons in ``Backend(reasons=...)``, which are added when it is loaded; ``prepare`` hands all of
    them to its processes.

    Args:
        reasons: what to do about a dropped row, a sentence by name; names are identifiers.
        warnings: what was done with a kept row, likewise.

    Raises:
        ValueError: if a name or sentence cannot be used, or the name has another meaning already.
    """
    for known, new in ((_reasons, reasons), (_warnings, warnings)):
        for name, sentence in new.items():
            if not name.isidentifier() or not sentence.endswith("."):
                raise ValueError(f"A reason is an identifier with a sentence that ends in a full stop: {name!r}.")
            if known.setdefault(name, sentence) != sentence:
                raise ValueError(f"{name!r} means already: {known[name]} Choose another name.")


def with_reasons(
    work: Callable[[Item], Result], reasons: Mapping[str, str], warnings: Mapping[str, str], item: Item
) -> Result:
    """Work on an item in a process that may have started without the backend's reasons."""
    declare_reasons(reasons, warnings=warnings)
    return work(item)
