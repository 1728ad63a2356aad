"""Speaker-verification vectors, which the Pro versions take beside a reference's spectrogram."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tts_train.contract import DataError
from tts_train_gpt_sovits.features.eres2net import MEL_BINS, ERes2NetV2
from tts_train_gpt_sovits.features.side_by_side import side_by_side
from tts_train_gpt_sovits.features.tiny import tiny_speaker
from tts_train_gpt_sovits.features.weights import TINY, fill, fingerprint, freeze, read_tensors
from tts_train_gpt_sovits.released.bases import base_file
from tts_train_gpt_sovits.signal.audio import FULL_SCALE

_RATE, _NETWORK_RATE = 32_000, 16_000
_SHORTEST = 0.025


class SpeakerVectors:
    """Clips to vectors, one clip at a time: padding would reach into the convolutions and the mean.

    Args:
        network: The network; it is put into evaluation mode.
        name: Its fingerprint.
        device: Where it computes.
    """

    def __init__(self, network: ERes2NetV2, *, name: str, device: str | torch.device = "cpu") -> None:
        from torchaudio.transforms import Resample

        freeze(network, device)
        self.network = network
        self.fingerprint = name
        self.device = torch.device(device)
        self._resample = Resample(_RATE, _NETWORK_RATE).to(self.device)

    @classmethod
    def load(cls, source: str, device: str | torch.device = "cpu") -> SpeakerVectors:
        """Return the network of a file, ``released``, or a small one of chance for ``tiny``.

        Raises:
            ConfigError: if there is no such file.
            DataError: if it is not an ERes2NetV2 of the released sizes; the names that differ are listed.
            UnsafeFileError: if it could run code.
        """
        if source == TINY:
            network, name = tiny_speaker()
        else:
            path = base_file(source, "speaker")
            network = ERes2NetV2()
            fill(network, read_tensors(path), source=str(path))
            name = fingerprint(network.state_dict())
        return cls(network, name=name, device=device)

    @torch.no_grad()
    def encode(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Return the vectors, float32 (20480,) on the CPU, of training audio: int16 (N,) at 32 kHz.

        Raises:
            DataError: if a clip is not int16, or shorter than one frame of 25 ms.
        """
        for index, wave in enumerate(waves):
            if wave.dtype != torch.int16 or wave.ndim != 1 or len(wave) < _SHORTEST * _RATE:
                shape = tuple(wave.shape)
                raise DataError(f"Clip {index} must be int16 of 25 ms or more, and is {wave.dtype} {shape}.")
        return side_by_side(self._encode, waves, self.device)

    def _encode(self, wave: Tensor) -> Tensor:
        samples = self._resample(wave.to(self.device).float()[None] / FULL_SCALE)
        return self.network(filter_banks(samples)[None])[0].float().cpu()  # type: ignore[no-any-return]


def filter_banks(samples: Tensor) -> Tensor:
    """Return Kaldi's 80 log mel filter banks (T, 80) of samples (1, N) at 16 kHz, full scale 1, without dither."""
    from torchaudio.compliance import kaldi

    banks: Tensor = kaldi.fbank(samples, num_mel_bins=MEL_BINS, sample_frequency=_NETWORK_RATE, dither=0.0)
    return banks
