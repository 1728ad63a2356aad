"""SNAC as Orpheus's codec: exact in batches, seeded in decoding, read without running any code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tts_train.families.token_lm import Codec, check_clip
from tts_train.nn import exact_float32
from tts_train_orpheus.codec.exact import (
    NoiseSource,
    check_levels,
    ends_at,
    group_batches,
    pad_clips,
    replace_noise,
    seeded_noise,
)
from tts_train_orpheus.codec.snac_files import (
    bake,
    build_snac,
    check_layout,
    frame_samples_of,
    read_snac,
    snac_fingerprint,
    tiny_config,
)
from tts_train_orpheus.codec.tiny import TinyCodec
from tts_train_orpheus.layout import Levels

if TYPE_CHECKING:
    from snac import SNAC


TINY = "tiny"
"""The source that stands for the small codec in this package, made for the sample voice."""
RANDOM = "random"
"""The source that stands for a small SNAC of Orpheus's layout with hashed weights: no voice comes out."""

CPU_BATCH_SAMPLES = 1 << 17
"""Samples encoded at once on a CPU (5.5 s); batches of 22 s leave its caches and take twice as long."""
GPU_BATCH_SAMPLES = 1 << 21
"""Samples encoded at once elsewhere (87 s at 24 kHz)."""


CONTEXT = 3
"""Frames that SNAC's decoder reaches on either side: a code changes samples up to 2.3 frames away."""


class SnacCodec:
    """A ``Codec`` around a network of the ``snac`` package, which it takes over: evaluation mode, weights baked.

    Args:
        network: a SNAC on the device where it shall compute.
        batch_samples: how many samples are encoded at once, padding included; a longer clip goes alone. None picks
            what is fastest on the device.
    """

    context_frames: int = CONTEXT

    def __init__(self, network: SNAC, *, batch_samples: int | None = None) -> None:
        # Before baking, which changes names but no code.
        self.fingerprint = snac_fingerprint(network)
        self.sample_rate: int = network.sampling_rate
        self.frame_samples: int = frame_samples_of(network)
        self._noise = replace_noise(network.decoder)
        self.network = bake(network.eval().requires_grad_(False))
        default = CPU_BATCH_SAMPLES if self.device.type == "cpu" else GPU_BATCH_SAMPLES
        self._batch_frames = max(1, (batch_samples or default) // self.frame_samples)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @torch.no_grad()
    def encode(self, clips: Sequence[Tensor]) -> list[Levels]:
        """Return the codes of each clip (1-D float32, any device) as int64 arrays, code for code as if encoded alone.

        Raises:
            DataError: if a clip is not 1-D float32, is empty, or has samples that are not finite.
        """
        for index, clip in enumerate(clips):
            check_clip(index, clip)
        frames = [-(-clip.numel() // self.frame_samples) for clip in clips]
        # Batches are by length; results go back to the places of their clips.
        codes: list[Levels] = [()] * len(clips)
        # Of like length together, so that little is padded; codes do not depend on it.
        for batch in group_batches(frames, self._batch_frames):
            for index, levels in zip(batch, self._encode_batch([clips[i] for i in batch]), strict=True):
                codes[index] = levels
        return codes

    @torch.no_grad()
    def decode(self, levels: Sequence[ArrayLike], *, seed: int | None = 0, first_frame: int = 0) -> Tensor:
        """Return the sound of SNAC levels as 1-D float32 on the CPU, frames * frame_samples long.

        SNAC's decoder mixes noise in. It is drawn from ``seed`` and the number of each frame, counted from
        ``first_frame``; ``seed=None`` leaves it out.

        Raises:
            DataError: if the levels do not fit together or a code is outside the codebook.
        """
        codes = check_levels(levels, self.network.vq_strides, self.network.codebook_size, self.device)
        frames = codes[0].shape[-1]
        if not frames:
            return torch.zeros(0)
        # By frame and not from a generator: a window sounds as it does in the whole.
        noise = None if seed is None else seeded_noise(seed, frames=frames, first_frame=first_frame)
        return self.decode_with(codes, noise)

    @torch.no_grad()
    def decode_with(self, codes: list[Tensor], noise: NoiseSource | None) -> Tensor:
        """Decode [1, n] code tensors with any source of noise; ``decode`` is the everyday way in."""
        # Set for this call; the blocks hold no state between calls that a clip could depend on.
        for block in self._noise:
            block.source = noise
        with exact_float32(self.device):
            sound: Tensor = self.network.decode(codes)[0, 0].float().cpu()
            return sound

    def _encode_batch(self, clips: list[Tensor]) -> list[Levels]:
        waves, frames = pad_clips([clip.to(self.device) for clip in clips], self.frame_samples)
        with exact_float32(self.device), ends_at(self.network.encoder, frames):
            _, codes = self.network.quantizer(self.network.encoder(waves))
        rates = [level.shape[-1] // max(frames) for level in codes]
        arrays = [level.cpu().numpy() for level in codes]
        return [
            tuple(array[row, : count * rate].copy() for array, rate in zip(arrays, rates, strict=True))
            for row, count in enumerate(frames)
        ]


def load_codec(source: str, *, device: str | torch.device = "cpu", batch_samples: int | None = None) -> Codec:
    """Return a codec of Orpheus's layout: a hub name (``hubertsiuzdak/snac_24khz``), a folder, ``tiny`` or ``random``.

    Raises:
        ConfigError: if it cannot be loaded or has another layout than Orpheus's tokens.
        UnsafeFileError: if the weights file would have to run code to be read.
    """
    # Without the snac package, which the small codec does not need.
    if source == TINY:
        return TinyCodec(device)
    config, weights = (tiny_config(), None) if source == RANDOM else read_snac(source)
    network = build_snac(config, weights, source)
    check_layout(network, source)
    return SnacCodec(network.to(device), batch_samples=batch_samples)
