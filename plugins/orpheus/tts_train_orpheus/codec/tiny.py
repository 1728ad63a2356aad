"""A small codec of Orpheus's token layout that comes with the package: made for the sample voice, 7.5 MB.

It is source and filter at the frame rate, so it encodes and decodes many times faster than SNAC. It was trained on one
synthetic voice alone (``tools/train_tiny_codec.py``): other voices come out changed. Its codes mean nothing to the
released Orpheus models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files

import torch
from numpy.typing import ArrayLike
from safetensors.torch import load
from torch import Tensor
from torch.nn import functional as F

from tts_train.families.token_lm import check_clip
from tts_train.nn import exact_float32
from tts_train_orpheus.codec import tiny_sound as sound
from tts_train_orpheus.codec.exact import check_levels, seeded_noise
from tts_train_orpheus.codec.tiny_network import STRIDES, TinyNetwork
from tts_train_orpheus.layout import CODEBOOK_SIZE, FRAME_SAMPLES, SAMPLE_RATE, Levels

WEIGHTS = "tiny_codec.safetensors"
"""In this package, in half precision."""


class TinyCodec:
    """A ``Codec`` with the weights in the package.

    A frame's sound depends on the three frames to either side at most, so it can be decoded in windows.

    Args:
        device: where it shall compute.
        weights: the bytes of another weights file; None takes the package's.
    """

    sample_rate: int = SAMPLE_RATE
    frame_samples: int = FRAME_SAMPLES
    context_frames: int = 3

    def __init__(self, device: str | torch.device = "cpu", *, weights: bytes | None = None) -> None:
        data = files(__package__).joinpath(WEIGHTS).read_bytes() if weights is None else weights
        # Of the bytes: there is nothing else that codes depend on.
        self.fingerprint: str = f"tiny-{hashlib.sha256(data).hexdigest()[:16]}"
        self.network = TinyNetwork().eval().requires_grad_(False)
        # Half precision keeps the package small; computing in float32 keeps codes the same everywhere.
        self.network.load_state_dict({name: tensor.float() for name, tensor in load(data).items()})
        self.network.to(device)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def encode(self, clips: Sequence[Tensor]) -> list[Levels]:
        """Return the codes of each clip (1-D float32, any device) as int64 arrays.

        Raises:
            DataError: if a clip is not 1-D float32, is empty, or has samples that are not finite.
        """
        for index, clip in enumerate(clips):
            check_clip(index, clip)
        with exact_float32(self.device):
            return [self._encode(clip.to(self.device)) for clip in clips]

    @torch.no_grad()
    def decode(self, levels: Sequence[ArrayLike], *, seed: int | None = 0, first_frame: int = 0) -> Tensor:
        """Return the sound of codes as 1-D float32 on the CPU, frames * frame_samples long.

        The noise is drawn from ``seed`` and the number of each frame, counted from ``first_frame``; ``seed=None``
        leaves it out.

        Raises:
            DataError: if the levels do not fit together or a code is outside the codebook.
        """
        codes = check_levels(levels, STRIDES, CODEBOOK_SIZE, self.device)
        frames = codes[0].shape[-1]
        if not frames:
            return torch.zeros(0)
        noise = None
        if seed is not None:
            # Block 0, and the only one: noise is added to the spectrum, not at several depths as in SNAC.
            drawn = seeded_noise(seed, frames=frames, first_frame=first_frame)(0, (1, 1, frames * FRAME_SAMPLES))
            noise = drawn[0].to(self.device)
        with exact_float32(self.device):
            return self._decode(codes, noise, first_frame)[0].float().cpu()

    def _encode(self, clip: Tensor) -> Levels:
        padded = F.pad(clip, (0, -len(clip) % FRAME_SAMPLES))[None]
        codes = self.network.quantiser.encode(self.network.encoder(sound.features(padded)))
        return tuple(code[0].cpu().numpy() for code in codes)

    def _decode(self, codes: list[Tensor], noise: Tensor | None, first_frame: int) -> Tensor:
        filters = self.network.decoder(self.network.quantiser.decode(codes))
        # Decided for each step, and then interpolated, so that a voice begins without a click.
        voice = sound.to_samples((filters.voice > 0).float())
        pitch = sound.to_samples(filters.pitch)
        train = sound.pulses(sound.anchored_cycles(pitch, voice, first_frame), pitch, voice)
        return self.network.render(filters, train, noise)
