"""Make the sample voice that ships with the demo: forty short English sentences, spoken offline by hibari-tts.

Needs ``pip install hibari-tts`` (Apache-2.0, the default voice is in its wheel). Run it from the repository root::

    python tools/make_sample_voice.py

The same seed gives the same clips, so a change of a sentence changes one file.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf

Wave = npt.NDArray[np.float32]

TARGET = Path("core/tts_train/demo/voice")
SAMPLE_RATE = 24_000
PEAK = 0.5
"""Loudest sample of every clip; -6 dBFS, so that no decoder overshoots."""
SECONDS = (1.2, 4.0)
MAX_BYTES = 2_700_000

SENTENCES = (
    "Good morning, and welcome to the workshop.",
    "A quick brown otter slid down the muddy bank.",
    "Could you pass me the orange juice, please?",
    "The lighthouse keeper painted every door blue.",
    "We measured the valley twice, just to be sure.",
    "Fresh bread smells better than any perfume.",
    "Seven swans were sleeping.",
    "She hums an old tune while the kettle boils.",
    "Why do cats always choose the warmest chair?",
    "Thunder rolled gently over the distant hills.",
    "My neighbour grows giant pumpkins every autumn.",
    "Please leave your boots beside the yellow mat.",
    "The pianist laughed and played it once more.",
    "Nothing beats a long walk after the rain.",
    "Choose a voice that you would like to hear.",
    "Those children built a castle out of cushions.",
    "How far is the village?",
    "Jack fixed the squeaky hinge with olive oil.",
    "The train to the coast leaves at noon.",
    "I usually read a chapter before I sleep.",
    "A tiny hedgehog hides under the fence until the moon is up.",
    "Ginger and lemon make a soothing drink.",
    "We could hear the ocean through the open window, and nobody said a word.",
    "Thank you, that was a wonderful surprise!",
    "The baker's van is parked on the other side.",
    "Every puzzle has a piece that goes missing.",
    "Is this the right path?",
    "He whistled, and both dogs came running back along the beach.",
    "Vivid purple clouds drifted across the sky.",
    "Let's meet by the fountain at half past three.",
    "The museum shows old maps of islands, mountains and rivers.",
    "Our garden is full of bees and butterflies.",
    "Breathe in, and count to four.",
    "That joke was worth the journey by itself.",
    "Young foxes play in the meadow at dawn.",
    "The judge enjoyed a bowl of vegetable soup.",
    "What a pleasure it is to hear you speak!",
    "Have a lovely day, George!",
    "Soft wool socks keep your toes from freezing.",
    "And now, at last, you can train a voice of your own.",
)


def main() -> int:
    """Write the clips, ``metadata.csv``, and a line about each clip on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TARGET, help="folder of metadata.csv and wavs/")
    parser.add_argument("--seed", type=int, default=0, help="seed of the voice's noise")
    options = parser.parse_args()

    from hibari import Hibari

    voice = Hibari()
    folder: Path = options.out / "wavs"
    folder.mkdir(parents=True, exist_ok=True)
    rows, seconds, size = [], 0.0, 0
    for number, text in enumerate(SENTENCES, start=1):
        name = f"sample-{number:02d}"
        clip = level(trim(np.asarray(voice(text, seed=options.seed + number), dtype=np.float32)))
        check(name, clip)
        data = encode(clip)
        (folder / f"{name}.flac").write_bytes(data)
        rows.append(f"{name}|{text}\n")
        seconds, size = seconds + len(clip) / SAMPLE_RATE, size + len(data)
        print(f"{name}  {len(clip) / SAMPLE_RATE:.2f} s  {len(data):6d} bytes  {text}")
    (options.out / "metadata.csv").write_text("".join(rows), encoding="utf-8")
    print(f"{len(rows)} clips, {seconds:.1f} s, {size / 1e6:.2f} MB")
    if size > MAX_BYTES:
        print(f"The clips are larger than {MAX_BYTES / 1e6} MB; shorten some sentences.", file=sys.stderr)
        return 1
    return 0


def trim(wave: Wave, *, below_db: float = -40.0, lead: float = 0.08, tail: float = 0.15) -> Wave:
    """Cut silence at both ends, keeping ``lead`` and ``tail`` seconds, and fade what is kept.

    Speech is where the level of 10 ms windows is above ``below_db`` against the loudest window.
    """
    hop = SAMPLE_RATE // 100
    windows = wave[: len(wave) // hop * hop].reshape(-1, hop)
    level_db = 20 * np.log10(np.sqrt((windows**2).mean(axis=1)) + 1e-9)
    speech = np.flatnonzero(level_db > level_db.max() + below_db)
    start = max(0, int(speech[0] * hop - lead * SAMPLE_RATE))
    stop = min(len(wave), int((speech[-1] + 1) * hop + tail * SAMPLE_RATE))
    clip: Wave = wave[start:stop].copy()
    fade = np.linspace(0.0, 1.0, hop, dtype=np.float32)
    clip[:hop] *= fade
    clip[-hop:] *= fade[::-1]
    return clip


def level(wave: Wave) -> Wave:
    """Scale to the same peak, so that no clip is quiet and none clips."""
    scaled: Wave = wave * np.float32(PEAK / np.abs(wave).max())
    return scaled


def check(name: str, wave: Wave) -> None:
    """Refuse clips that are too short, too long, offset or mostly silent."""
    seconds = len(wave) / SAMPLE_RATE
    assert SECONDS[0] <= seconds <= SECONDS[1], f"{name} lasts {seconds:.2f} s"
    assert abs(float(wave.mean())) < 0.01, f"{name} is not centred"
    assert float(np.sqrt((wave**2).mean())) > 0.03, f"{name} is nearly silent"


def encode(wave: Wave) -> bytes:
    """Encode as 16-bit mono FLAC."""
    buffer = io.BytesIO()
    sf.write(buffer, wave, SAMPLE_RATE, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return buffer.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
