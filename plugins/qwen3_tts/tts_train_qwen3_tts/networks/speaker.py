"""The speaker encoder of the Base models: a reference's samples to the vector that stands at the speaker's position.

The network is an ECAPA-TDNN (Desplanques et al. 2020, arXiv 2005.07143) without batch normalisation. Shapes: B
references, C channels, T frames of 256 samples. Entries of its state dict are named as in the released files, without
their ``speaker_encoder.``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tts_train.contract import ConfigError, DataError
from tts_train.corpus import Limits
from tts_train.nn import kept_table, mel_triangles

SAMPLE_RATE = 24_000
LEAST_SECONDS = 1.0
"""A reference's least length: the mel alone needs 0.05 s, but a shorter sound than this says little of a voice."""
MOST_SECONDS = 30.0
"""What is read of a longer reference: its beginning."""

FFT, HOP = 1024, 256
_FLOOR = 1e-12  # of a variance

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpeakerConfig:
    """The sizes of a speaker encoder under the names of config.json; the defaults are those of both released models."""

    enc_dim: int
    """Numbers of a vector: the talker's width."""
    mel_dim: int = 128
    enc_channels: tuple[int, ...] = (512, 512, 512, 512, 1536)
    """Of the first convolution, of each block, and of what joins the blocks."""
    enc_kernel_sizes: tuple[int, ...] = (5, 3, 3, 3, 1)
    enc_dilations: tuple[int, ...] = (1, 2, 3, 4, 1)
    enc_attention_channels: int = 128
    enc_res2net_scale: int = 8
    enc_se_channels: int = 128
    sample_rate: int = SAMPLE_RATE

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> SpeakerConfig:
        """Return what ``speaker_encoder_config`` of a model's config.json says; keys of no meaning here are left out.

        Raises:
            ConfigError: if ``enc_dim`` is missing, or sizes are none that this network can have.
        """
        names = {field.name for field in fields(cls)}
        given: dict[str, Any] = {
            name: _tupled(value) for name, value in values.items() if name in names and value is not None
        }
        if "enc_dim" not in given:
            raise ConfigError(f"{_WHERE} names no enc_dim, the width of the talker; released files have 1024 or 2048.")
        return cls(**given)

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit each other."""
        lists = ("enc_channels", "enc_kernel_sizes", "enc_dilations")
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if field.name in lists else (value,)
            whole = isinstance(numbers, tuple) and all(type(number) is int and number > 0 for number in numbers)
            if not whole:
                raise ConfigError(f"{_WHERE} has {field.name} {value!r}, where whole numbers above 0 are allowed.")
        if len({len(getattr(self, name)) for name in lists}) > 1 or len(self.enc_channels) < 3:
            raise ConfigError(f"{_WHERE} must give {', '.join(lists)} one length of 3 or more.")
        if len(set(self.enc_channels[:-1])) > 1 or self.enc_channels[0] % self.enc_res2net_scale:
            raise ConfigError(
                f"{_WHERE} has enc_channels {list(self.enc_channels)}; all but the last must be equal and a multiple "
                f"of enc_res2net_scale, {self.enc_res2net_scale}."
            )
        if any(size % 2 == 0 for size in self.enc_kernel_sizes):
            raise ConfigError(f"{_WHERE} has enc_kernel_sizes {list(self.enc_kernel_sizes)}; all must be odd.")
        if self.sample_rate != SAMPLE_RATE:
            raise ConfigError(f"{_WHERE} has sample_rate {self.sample_rate}; only {SAMPLE_RATE} is known.")


_WHERE = "speaker_encoder_config of config.json"


def _tupled(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


class SpeakerEncoder(nn.Module):
    """Log mel spectrograms to one vector a reference.

    Args:
        config: Its sizes, or ``speaker_encoder_config`` of a model's config.json.

    Raises:
        ConfigError: as :meth:`SpeakerConfig.read`.
    """

    def __init__(self, config: SpeakerConfig | Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config = config if isinstance(config, SpeakerConfig) else SpeakerConfig.read(config)
        channels, kernels, dilations = config.enc_channels, config.enc_kernel_sizes, config.enc_dilations
        blocks: list[nn.Module] = [TimeDelay(config.mel_dim, channels[0], kernels[0], dilations[0])]
        blocks += [SqueezedRes2Net(config, place) for place in range(1, len(channels) - 1)]
        self.blocks = nn.ModuleList(blocks)
        self.mfa = TimeDelay(sum(channels[1:-1]), channels[-1], kernels[-1], dilations[-1])
        self.asp = AttentivePooling(channels[-1], config.enc_attention_channels)
        self.fc = nn.Conv1d(2 * channels[-1], config.enc_dim, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """Return the vectors (B, enc_dim), which are not normalised, of log mels (B, mel_dim, T)."""
        found = []
        for block in self.blocks:
            mel = block(mel)
            found.append(mel)
        return self.fc(self.asp(self.mfa(torch.cat(found[1:], dim=1))))[..., 0]  # type: ignore[no-any-return]


class TimeDelay(nn.Module):
    """A convolution over mirrored edges, and a ReLU."""

    def __init__(self, entering: int, leaving: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(entering, leaving, kernel, dilation=dilation, padding="same", padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, leaving, T) of (B, entering, T)."""
        return F.relu(self.conv(x))


class SqueezedRes2Net(nn.Module):
    """Convolutions of ever wider reach between two of one frame, a weight for each channel, and what came in added."""

    def __init__(self, config: SpeakerConfig, place: int) -> None:
        super().__init__()
        width = config.enc_channels[place]
        kernel, dilation = config.enc_kernel_sizes[place], config.enc_dilations[place]
        self.tdnn1 = TimeDelay(width, width)
        self.res2net_block = Res2NetChunks(width, config.enc_res2net_scale, kernel, dilation)
        self.tdnn2 = TimeDelay(width, width)
        self.se_block = ChannelWeights(width, config.enc_se_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, T) of (B, C, T)."""
        return x + self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x))))  # type: ignore[no-any-return]


class Res2NetChunks(nn.Module):
    """Chunks of the channels: the first passes, each other goes with the one before it through a convolution."""

    def __init__(self, width: int, scale: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.scale = scale
        part = width // scale
        self.blocks = nn.ModuleList(TimeDelay(part, part, kernel, dilation) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, T) of (B, C, T)."""
        first, *rest = x.chunk(self.scale, dim=1)
        made = [first]
        for place, (block, chunk) in enumerate(zip(self.blocks, rest, strict=True)):
            made.append(block(chunk + made[-1] if place else chunk))
        return torch.cat(made, dim=1)


class ChannelWeights(nn.Module):
    """Squeeze and excitation: each channel times a weight that the means of all channels decide."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(width, narrow, 1), nn.Conv1d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, T) of (B, C, T)."""
        return x * torch.sigmoid(self.conv2(F.relu(self.conv1(x.mean(dim=2, keepdim=True)))))


class AttentivePooling(nn.Module):
    """Means and deviations over time, in which each channel weighs the frames by itself."""

    def __init__(self, width: int, narrow: int) -> None:
        super().__init__()
        self.tdnn = TimeDelay(3 * width, narrow)
        self.conv = nn.Conv1d(narrow, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 2 * C, 1) of (B, C, T)."""
        even = _moments(x, torch.full_like(x[:, :1], 1 / x.shape[2]))
        context = torch.cat([x, *(each.expand_as(x) for each in even)], dim=1)
        return torch.cat(_moments(x, self.conv(torch.tanh(self.tdnn(context))).softmax(dim=2)), dim=1)


def _moments(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    mean = (weights * x).sum(dim=2, keepdim=True)
    return mean, (weights * (x - mean).square()).sum(dim=2, keepdim=True).clamp(min=_FLOOR).sqrt()


@torch.no_grad()
def embed(encoder: SpeakerEncoder, samples: Tensor) -> Tensor:
    """Return the vector, float32 (enc_dim,) on the encoder's device, of a reference.

    Args:
        encoder: Computes in float32, whatever type its weights have and whatever autocast says: a model that speaks
            in half precision then takes the same voice as ``prepare``.
        samples: (N,) mono at 24 kHz in [-1, 1]. Of more than 30 s the first 30 are read, and a line of the log says so.

    Raises:
        DataError: if there are less than 1 s, nothing to hear, or numbers that are not finite.
    """
    check_reference(samples)
    most = round(MOST_SECONDS * SAMPLE_RATE)
    if len(samples) > most:
        _log.info("A reference of %.1f s: its first %g s are read.", len(samples) / SAMPLE_RATE, MOST_SECONDS)
    device = encoder.fc.weight.device
    wide = {name: weight.float() for name, weight in encoder.named_parameters()}
    with torch.autocast(device.type, enabled=False):
        mel = log_mel(samples[None, :most].to(device, torch.float32), encoder.config.mel_dim)
        vector: Tensor = functional_call(encoder, wide, (mel,))[0]
    return vector


def check_reference(samples: Tensor) -> None:
    """Refuse samples (N,) that no voice can be taken from.

    Raises:
        DataError: as :func:`embed`.
    """
    if samples.ndim != 1 or not samples.is_floating_point():
        raise DataError(f"A reference must be floats of one channel, and is {samples.dtype} {tuple(samples.shape)}.")
    if (seconds := len(samples) / SAMPLE_RATE) < LEAST_SECONDS:
        raise DataError(
            f"A reference has {seconds:.2f} s, and a voice is taken from {LEAST_SECONDS:g} s or more. Give a longer "
            "recording of the speaker; 3 to 15 s of clear speech are best."
        )
    if not torch.isfinite(samples).all():
        raise DataError("A reference has samples that are not finite. Write the recording again.")
    # The limit of a corpus's recordings, so that what prepare takes as a row is no silence here.
    if (peak := float(samples.abs().max())) < Limits().silent_peak:
        raise DataError(f"A reference is silent: its peak is {peak:.2g} of full scale. Give one with speech in it.")


def log_mel(samples: Tensor, n_mels: int = 128) -> Tensor:
    """Return the natural log of mel bands, (B, n_mels, N // 256), of samples (B, N) at 24 kHz; at least log(1e-5)."""
    edge = (FFT - HOP) // 2
    frames = F.pad(samples, (edge, edge), mode="reflect").unfold(-1, FFT, HOP)
    bins = torch.fft.rfft(frames * _window(samples.device).to(samples.dtype)).transpose(-2, -1)
    magnitudes = (bins.real.square() + bins.imag.square() + 1e-9).sqrt()
    return torch.log((mel_bands(n_mels, samples.device).to(samples.dtype) @ magnitudes).clamp(min=1e-5))


@kept_table
def mel_bands(n_mels: int, device: torch.device) -> Tensor:
    """Return Slaney's triangles (n_mels, 513), float32, each of area 2 / its width in Hz."""
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1)
    return torch.from_numpy(mel_triangles(SAMPLE_RATE, n_mels, "slaney", frequencies, of_area=True)).float().to(device)


@kept_table
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(FFT, device=device)
