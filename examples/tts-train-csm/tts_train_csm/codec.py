"""Mimi (Kyutai) as the family asks for it: 32 codebooks, 12.5 frames a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tts_train.contract import ConfigError, DataError
from tts_train.families.token_lm import weights_fingerprint
from tts_train_csm.layout import CODEBOOKS, LAYOUT

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from transformers import MimiConfig

TINY = "tiny"  # a small Mimi with seeded weights: no voice comes out


class MimiCodec:
    """A ``Codec`` around a ``MimiModel`` of transformers, one clip at a time, so that no clip's codes depend on others.

    Args:
        network: In evaluation mode, on the device where it shall compute.
    """

    sample_rate = LAYOUT.sample_rate
    frame_samples = LAYOUT.frame_samples

    def __init__(self, network: Any) -> None:
        self.network = network.eval().requires_grad_(False)
        self.fingerprint = weights_fingerprint("mimi", network)
        config = network.config
        # The transformer behind the codes looks back so far in each layer; it has two positions a frame.
        self.context_frames: int = config.num_hidden_layers * config.sliding_window // 2 + 1

    @torch.no_grad()
    def encode(self, clips: Sequence[Tensor]) -> list[tuple[np.ndarray, ...]]:
        """Return the codes of each clip (1-D float32), an array for each of the 32 codebooks."""
        return [self._codes(clip) for clip in clips]

    @torch.no_grad()
    def decode(self, levels: Sequence[ArrayLike], *, seed: int | None = 0, first_frame: int = 0) -> Tensor:
        """Return the sound as float32 (frames * 1920,) on the CPU; there is no noise in it."""
        del seed, first_frame
        codes = torch.as_tensor(np.stack([np.asarray(level, dtype=np.int64) for level in levels]))
        if not codes.numel():
            return torch.zeros(0)
        if int(codes.max()) >= self.network.config.codebook_size or int(codes.min()) < 0:
            raise DataError(f"Mimi's codes lie in [0, {self.network.config.codebook_size}), and these do not.")
        sound: Tensor = self.network.decode(codes[None].to(self.network.device)).audio_values[0, 0]
        return sound[: codes.shape[1] * self.frame_samples].float().cpu()

    def _codes(self, clip: Tensor) -> tuple[np.ndarray, ...]:
        if clip.ndim != 1 or not clip.numel() or not torch.isfinite(clip).all():
            raise DataError(f"A clip must be 1-D, finite and not empty, and this one is {tuple(clip.shape)}.")
        whole = nn.functional.pad(clip, (0, -len(clip) % self.frame_samples)).to(self.network.device)
        codes = self.network.encode(whole[None, None], num_quantizers=CODEBOOKS).audio_codes[0]
        return tuple(codes[:, : len(whole) // self.frame_samples].cpu().numpy())


def load_codec(source: str, *, device: str | torch.device = "cpu") -> MimiCodec:
    """Load a Mimi from a folder or the hub, or make the tiny one.

    Raises:
        ConfigError: if it cannot be loaded or has another layout.
    """
    return MimiCodec(load_mimi(source).to(device))


def load_mimi(source: str) -> Any:
    """Load transformers' ``MimiModel``; arguments and errors are those of :func:`load_codec`."""
    from transformers import MimiModel

    if source == TINY:
        return _tiny_mimi()
    try:
        network = MimiModel.from_pretrained(source, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--codec {source}: {error} Give a folder, a hub name (kyutai/mimi) or {TINY!r}.") from error
    found = (network.config.sampling_rate, network.config.codebook_size, network.config.num_quantizers)
    if found != (LAYOUT.sample_rate, LAYOUT.codes, CODEBOOKS):
        raise ConfigError(f"--codec {source}: CSM needs a Mimi of 24 kHz with 32 codebooks of 2048 codes, not {found}.")
    return network


def tiny_mimi_config() -> MimiConfig:
    """Return the configuration of a small Mimi with the real rates and codebooks."""
    from transformers import MimiConfig

    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    widths = {"hidden_size": 16, "intermediate_size": 16, "codebook_dim": 8, "num_filters": 2, "upsample_groups": 16}
    return MimiConfig(**layers, **widths, vector_quantization_hidden_dimension=8)


def _tiny_mimi() -> Any:
    from transformers import MimiModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = MimiModel(tiny_mimi_config()).eval()
        for name, buffer in network.named_buffers():
            if name.endswith("embed_sum"):
                nn.init.normal_(buffer, std=0.1)
        *_, last = (each for each in network.modules() if isinstance(each, nn.Conv1d) and each.out_channels == 1)
        last.weight.data *= 0.05  # else most samples would lie beyond full scale
    return network
