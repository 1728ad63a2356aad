"""The codec as the family asks for it: exact codes for each clip alone, sound in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from tts_train.contract import DataError
from tts_train.families.token_lm import check_clip, weights_fingerprint
from tts_train.nn import exact_float32
from tts_train_qwen3_tts.codec.decoder import SoundDecoder
from tts_train_qwen3_tts.codec.encoder import SoundEncoder
from tts_train_qwen3_tts.codec.sizes import FRAME_SAMPLES, SAMPLE_RATE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class QwenCodec:
    """A ``Codec`` of both networks, which it takes over: float32, evaluation mode.

    Sound depends on no later frame, and on ``context_frames`` before it: those that all layers of attention reach
    together. What is decoded in windows with so many frames of context is the whole decode to the rounding of float32.
    (Upstream decodes 300 frames at a time with 25 before them, so its long clips differ slightly from a whole decode.)

    Args:
        encoder: on the device where it shall compute.
        decoder: on the same device.
        config: the contents of config.json.
        folder: where both were read from, if they were.
    """

    sample_rate = SAMPLE_RATE
    frame_samples = FRAME_SAMPLES
    ahead_frames = 0

    def __init__(
        self, encoder: SoundEncoder, decoder: SoundDecoder, *, config: Mapping[str, Any], folder: Path | None = None
    ) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.decoder = decoder.eval().requires_grad_(False)
        self.config, self.folder = config, folder
        self.context_frames: int = decoder.sizes.reach
        self.codebooks: int = decoder.sizes.num_quantizers
        # Strides and heads change codes without changing a weight.
        facts = crc32(repr(encoder.sizes).encode())
        window = "on" if encoder.window else "off"
        self.fingerprint = weights_fingerprint(f"qwen3-tts-12hz-window-{window}-{facts:08x}", encoder)

    def to(self, device: str | torch.device) -> QwenCodec:
        """Move both networks, and return the codec."""
        self.encoder.to(device)
        self.decoder.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the networks compute."""
        return self.encoder.downsample.conv.weight.device

    @torch.no_grad()
    def encode(self, clips: Sequence[Tensor]) -> list[tuple[np.ndarray, ...]]:
        """Return the codes of each clip (1-D float32, any device), an int64 array for each of the 16 codebooks.

        Clips go one by one, as upstream encodes a single file; there, what stands in a batch beside a clip can change
        the codes of its last frame.

        Raises:
            DataError: if a clip is not 1-D float32, is empty, or has samples that are not finite.
        """
        for index, clip in enumerate(clips):
            check_clip(index, clip)
        with exact_float32(self.device):
            found = [self.encoder(clip.to(self.device)[None, None], self.codebooks)[0].cpu() for clip in clips]
        return [tuple(codes.numpy()) for codes in found]

    @torch.no_grad()
    def decode(self, levels: Sequence[ArrayLike], *, seed: int | None = 0, first_frame: int = 0) -> Tensor:
        """Return the sound as float32 (frames * 1920,) on the CPU; there is no noise in it.

        Args:
            levels: the codes of each codebook.
            seed: of no effect.
            first_frame: the number of the first frame in its utterance, by which rotary positions go: a window is
                computed from the same angles as the whole.

        Raises:
            DataError: if the codes are not those of 16 codebooks of equal length.
        """
        del seed
        return self._sound(levels, first_frame, skip=0)

    @torch.no_grad()
    def decode_tail(self, levels: Sequence[ArrayLike], count: int, *, first_frame: int = 0) -> Tensor:
        """Return the sound of the last ``count`` frames alone, which is less work; the rest as :meth:`decode`."""
        return self._sound(levels, first_frame, skip=max(len(np.asarray(levels[0])) - count, 0))

    def _sound(self, levels: Sequence[ArrayLike], first_frame: int, *, skip: int) -> Tensor:
        rows = [np.asarray(level, dtype=np.int64).reshape(-1) for level in levels]
        if len(rows) != self.codebooks or len({len(row) for row in rows}) != 1:
            raise DataError(
                f"Sound is decoded from {self.codebooks} codebooks of equal length, and these are {len(rows)} of "
                f"{sorted({len(row) for row in rows})} codes."
            )
        # An index beyond the table would end a process on a card, without saying which.
        codes, size = torch.from_numpy(np.stack(rows)), self.decoder.sizes.codebook_size
        if not codes.numel():
            return torch.zeros(0)
        if int(codes.min()) < 0 or int(codes.max()) >= size:
            raise DataError(f"Codes lie in [0, {size}), and these in [{int(codes.min())}, {int(codes.max())}].")
        with exact_float32(self.device):
            sound: Tensor = self.decoder(codes[None].to(self.device), first_frame, skip)[0].cpu()
        return sound
