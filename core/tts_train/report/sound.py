"""The samples part of the report: each utterance with its takes, every one a mel picture and a player."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import soundfile as sf

from tts_train.report.chart import number
from tts_train.report.samples import mel_picture
from tts_train.report.source import CEILING, REFERENCE, Run, SavedSample

MAX_UTTERANCES = 8
MAX_TAKES = 6
"""Takes of one utterance that the page carries beside the reference: the first, the last and some between."""
LABELS = {REFERENCE: "Recording", CEILING: "Codec alone"}
"""What is heard beside the model: nothing behind the codec can sound better than the second."""
START = "Before training"
FAULTS = ("repetition", "swallowed", "runaway")
"""What listening while training finds wrong with a sample."""
_SHOWN_ELSEWHERE = {*FAULTS, "text", "sample_rate", "seconds", "peak", "rms_db", "clipped"}


def latest(run: Run) -> SavedSample | None:
    """Return the take that stands for the run: of the last step, the first utterance."""
    made = [take for takes in run.takes.values() for take in takes if take.step is not None]
    return max(made, key=lambda take: take.step or 0, default=None)


def utterances(run: Run) -> str:
    """Return one block for each utterance, and a sentence about what the page leaves out."""
    if not run.takes:
        return '<p class="none">No samples were made.</p>'
    shown = list(run.takes.items())[:MAX_UTTERANCES]
    blocks = "".join(_utterance(name, takes) for name, takes in shown)
    left = len(run.takes) - len(shown)
    more = f'<p class="none">{left} more utterances are in <code>samples/</code>.</p>' if left else ""
    return blocks + more


def player(take: SavedSample, *, label: str) -> str:
    """Return the mel picture over an audio player, both inside the page."""
    text = str(take.facts.get("text", take.sound.stem))
    said = escape(f"{label}: {text}")
    return (
        f'<img src="data:image/png;base64,{_base64(_picture(take))}" alt="Mel spectrogram, {said}">'
        f'<audio controls preload="metadata" aria-label="{said}" '
        f'src="data:audio/flac;base64,{_base64(_flac(take.sound))}"></audio>'
    )


def _utterance(name: str, takes: Sequence[SavedSample]) -> str:
    text = next((str(take.facts["text"]) for take in takes if take.facts.get("text")), name)
    chosen = _choose(takes)
    left = len(takes) - len(chosen)
    more = f' <span class="aside">{left} more in <code>samples/</code></span>' if left else ""
    cards = "".join(_take(take) for take in chosen)
    heading = f'<h3>“{escape(text)}”</h3><p class="aside">{escape(name)}{more}</p>'
    return f'<article>{heading}<div class="takes">{cards}</div></article>'


def _take(take: SavedSample) -> str:
    label = LABELS[take.kind] if take.step is None else f"Step {number(take.step)}" if take.step else START
    kind = "take compared" if take.step is None else "take"
    body = player(take, label=label) + _facts(take.facts)
    return f'<figure class="{kind}"><figcaption>{label}</figcaption>{body}</figure>'


def _facts(facts: Mapping[str, Any]) -> str:
    parts = []
    if "seconds" in facts:
        parts.append(f"{facts['seconds']:.2f} s")
    if "rms_db" in facts:
        parts.append(f"{facts['rms_db']:.0f} dB")
    parts += [
        f"{key.replace('_', ' ')} {number(value) if isinstance(value, int | float) else value}"
        for key, value in facts.items()
        if key not in _SHOWN_ELSEWHERE and isinstance(value, int | float | str)
    ]
    told = " · ".join(escape(str(part)) for part in parts)
    clipped = f' <em class="bad">{facts["clipped"]} samples clipped</em>' if facts.get("clipped") else ""
    wrong = "".join(f' <em class="bad">{fault}</em>' for fault in FAULTS if facts.get(fault))
    return f'<p class="facts">{told}{clipped}{wrong}</p>'


def _choose(takes: Sequence[SavedSample]) -> list[SavedSample]:
    """What is compared with, and up to ``MAX_TAKES`` steps spread evenly from the first to the last."""
    made = [take for take in takes if take.step is not None]
    if len(made) > MAX_TAKES:
        # The first and the last are always among them.
        places = {round(index * (len(made) - 1) / (MAX_TAKES - 1)) for index in range(MAX_TAKES)}
        made = [take for index, take in enumerate(made) if index in places]
    return [take for take in takes if take.step is None] + made


def _picture(take: SavedSample) -> bytes:
    if take.picture.exists():
        return take.picture.read_bytes()
    samples, rate = sf.read(take.sound)
    # soundfile gives (time, channels), and time must come last.
    return mel_picture(samples.T, rate)


def _flac(path: Path) -> bytes:
    """The same samples, about half as large as the WAV."""
    samples, rate = sf.read(path, dtype="int16")
    buffer = io.BytesIO()
    # All browsers play FLAC, and it loses nothing of what is to be judged.
    sf.write(buffer, samples, rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
