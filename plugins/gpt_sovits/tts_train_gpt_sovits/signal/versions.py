"""Sizes that files and networks share, and what differs between the released versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tts_train.contract import ConfigError
from tts_train_gpt_sovits.signal.mel import GAN_MEL, V3_MEL, V4_MEL, MelSettings

CODES_PER_SECOND = 25
"""Semantic tokens of a second of speech."""
BERT_WIDTH = 1024
"""Channels of a phoneme's BERT feature."""


@dataclass(frozen=True)
class GptConfig:
    """Sizes of the text-to-semantic network."""

    phonemes: int = 732
    """Rows of the phoneme table: 732, or 512 for v1."""
    codes: int = 1025
    """Semantic codes and the end token, which is the last."""
    width: int = 512
    heads: int = 16
    layers: int = 24
    dropout: float = 0.1
    """Dropped after each position sum, on attention weights and on both branches of a layer; upstream's is 0.1."""

    @property
    def end(self) -> int:
        """The id of the end token."""
        return self.codes - 1


FEATURES = 768
"""Channels of the speech features."""
SPEAKER = 20480
"""Width of the speaker-verification vector."""
# Half of 2,048 samples, and one for 0 Hz: every version's spectrogram at 32 kHz.
SPECTROGRAM_BINS = 1025
ESTIMATOR = "estimator"
"""Sizes of the flow-matching estimator in settings, by our arguments; released files have none, and one size."""
_SYMBOLS = 732
_SHORT_PERIODS = (2, 3, 5, 7, 11)


@dataclass(frozen=True, kw_only=True)
class SovitsVersion:
    """One row of the table; channel counts that no version changes are the networks' defaults."""

    name: str
    """As users and files call it."""
    kind: Literal["gan", "flow"] = "gan"
    """``gan``: latents, waveform generator and critics; ``flow``: flow matching of a mel spectrogram."""
    symbols: int = _SYMBOLS
    """Entries of the phoneme table."""
    style_bins: int = 704
    """Spectrogram bins that the style encoder reads."""
    style: int = 512
    """Channels of the style vector."""
    speaker: bool = False
    """Whether a speaker-verification vector is joined into the style."""
    wave_channels: int = 512
    """Channels before the generator's first upsampling."""
    upsample_kernels: tuple[int, ...] = (16, 16, 8, 2, 2)
    """Kernel of each upsampling."""
    periods: tuple[int, ...] = _SHORT_PERIODS
    """Periods of the critics."""
    dropout: float = 0.1
    """Dropout of the content encoder in training."""
    mel: MelSettings = GAN_MEL
    """Mel spectrogram of the loss (``gan``) or of the target (``flow``)."""
    mel_per_feature: float = 1.0
    """Mel frames for each frame of speech features, 50 a second."""


# Upstream added two longer periods for the Pro versions.
_PRO_PERIODS = (*_SHORT_PERIODS, 17, 23)
VERSIONS: dict[str, SovitsVersion] = {
    row.name: row
    for row in (
        # v1 reads every bin of the reference; the others leave out what is above 11 kHz.
        SovitsVersion(name="v1", symbols=322, style_bins=SPECTROGRAM_BINS),
        SovitsVersion(name="v2"),
        SovitsVersion(name="v3", kind="flow", mel=V3_MEL, mel_per_feature=1.875),
        SovitsVersion(name="v4", kind="flow", mel=V4_MEL, mel_per_feature=2.0),
        SovitsVersion(name="v2Pro", style=1024, speaker=True, periods=_PRO_PERIODS, dropout=0.0),
        SovitsVersion(
            name="v2ProPlus",
            style=1024,
            speaker=True,
            periods=_PRO_PERIODS,
            dropout=0.0,
            wave_channels=768,
            upsample_kernels=(20, 16, 8, 2, 2),
        ),
    )
}
"""Every version by name."""


def find_version(name: str) -> SovitsVersion:
    """Return the version called ``name``; ConfigError for one that is not known."""
    if name not in VERSIONS:
        raise ConfigError(f"The SoVITS version is one of {', '.join(VERSIONS)}, and {name!r} was given.")
    return VERSIONS[name]


def find_kind(name: str, kind: Literal["gan", "flow"]) -> SovitsVersion:
    """Return the version called ``name``; ConfigError for one that is not known or of the other kind."""
    version = find_version(name)
    if version.kind != kind:
        said = "is trained by flow matching and has no critics" if version.kind == "flow" else "is adversarial"
        raise ConfigError(f"SoVITS {name} {said}; ask for one of the other kind.")
    return version
