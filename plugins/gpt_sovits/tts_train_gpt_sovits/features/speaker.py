"""Speaker-verification vectors, which the Pro versions take beside a reference's spectrogram.

The network is ERes2NetV2 (Chen et al. 2024, arXiv 2406.02167) up to its fusion of two scales. Shapes: B clips, C
channels, F mel bins, T frames of 10 ms. Entries of the state dict are named as in the released file.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tts_train.contract import DataError
from tts_train_gpt_sovits.features.batching import side_by_side
from tts_train_gpt_sovits.features.weights import TINY, draw, fill, fingerprint, freeze, read_tensors
from tts_train_gpt_sovits.released.bases import base_file
from tts_train_gpt_sovits.signal.audio import FULL_SCALE

MEL_BINS = 80
_LIMIT = 20.0
"""Where the activations inside the blocks saturate."""
_RATE, _NETWORK_RATE = 32_000, 16_000
_SHORTEST = 0.025
_TINY_SEED = 20_263


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
        # Of the stored 16-bit words, as upstream, which reads the file that it wrote before
        # (prepare_datasets/2-get-sv.py).
        samples = self._resample(wave.to(self.device).float()[None] / FULL_SCALE)
        return self.network(filter_banks(samples)[None])[0].float().cpu()  # type: ignore[no-any-return]


def filter_banks(samples: Tensor) -> Tensor:
    """Return Kaldi's 80 log mel filter banks (T, 80) of samples (1, N) at 16 kHz, full scale 1, without dither."""
    from torchaudio.compliance import kaldi

    # Without dither, which is noise: the same clip must give the same vector.
    banks: Tensor = kaldi.fbank(samples, num_mel_bins=MEL_BINS, sample_frequency=_NETWORK_RATE, dither=0.0)
    return banks


def tiny_speaker() -> tuple[ERes2NetV2, str]:
    """Return a speaker network of one narrow block a stage with 20,480 outputs, and its fingerprint."""
    network = ERes2NetV2(blocks=(1, 1, 1, 1), planes=(8, 8, 16, 512), base_width=16)
    draw(network, _TINY_SEED)
    return network, fingerprint(network.state_dict())


class ERes2NetV2(nn.Module):
    """Filter banks to one vector a clip; the released layers after it, which narrow it to 192, are left out.

    Args:
        blocks: Residual blocks of each of the four stages.
        planes: Channels of each stage, before ``expansion``.
        base_width: Channels of a branch of a block, of 64 planes.
        scale: Branches of a block.
        expansion: How much wider a stage's output is than its planes.
    """

    def __init__(
        self,
        *,
        blocks: Sequence[int] = (3, 4, 6, 3),
        planes: Sequence[int] = (64, 128, 256, 512),
        base_width: int = 24,
        scale: int = 4,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, planes[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes[0])
        wide = [planes[0], *(each * expansion for each in planes)]

        def stage(number: int) -> nn.Sequential:
            entering = [wide[number - 1], *[wide[number]] * (blocks[number - 1] - 1)]
            width = planes[number - 1] * base_width // 64
            return nn.Sequential(
                *(
                    Res2Block(
                        channels,
                        wide[number],
                        width=width,
                        scale=scale,
                        stride=2 if number > 1 and place == 0 else 1,
                        fused=number > 2,
                    )
                    for place, channels in enumerate(entering)
                )
            )

        self.layer1, self.layer2, self.layer3, self.layer4 = (stage(number) for number in (1, 2, 3, 4))
        # Named as in upstream's eres2net/ERes2NetV2.py: the released file's tensors are found by these names.
        self.layer3_ds = nn.Conv2d(wide[3], wide[4], 3, stride=2, padding=1, bias=False)
        self.fuse34 = Fusion(wide[4])

    def forward(self, banks: Tensor) -> Tensor:
        """Return (B, C * F / 8) of log mel filter banks (B, T, F): the fused maps, averaged over time."""
        hidden = torch.relu(self.bn1(self.conv1(banks.transpose(1, 2)[:, None])))
        third = self.layer3(self.layer2(self.layer1(hidden)))
        fused: Tensor = self.fuse34(self.layer4(third), self.layer3_ds(third))
        # Upstream stops here: the pooling and projection that follow in ERes2NetV2 are not used
        # (eres2net/ERes2NetV2.py, forward3).
        return fused.flatten(1, 2).mean(dim=-1)


class Res2Block(nn.Module):
    """A residual block whose branches feed one another (Res2Net), by sum or by a learned fusion.

    Args:
        channels: Channels of the input.
        output: Channels of the output.
        width: Channels of a branch.
        scale: Branches.
        stride: Of mel bins and frames.
        fused: Whether a branch takes the one before by a learned fusion.
    """

    def __init__(self, channels: int, output: int, *, width: int, scale: int, stride: int, fused: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width * scale, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width * scale)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(scale))
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(scale))
        self.fuse_models = nn.ModuleList(Fusion(width) for _ in range(scale - 1)) if fused else None
        self.conv3 = nn.Conv2d(width * scale, output, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(output)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != output:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, output, 1, stride=stride, bias=False), nn.BatchNorm2d(output)
            )

    def forward(self, hidden: Tensor) -> Tensor:
        """Transform (B, C, F, T)."""
        parts = _clip(self.bn1(self.conv1(hidden))).chunk(len(self.convs), dim=1)
        branches: list[Tensor] = []
        for place, (part, conv, norm) in enumerate(zip(parts, self.convs, self.bns, strict=True)):
            entering = self._join(branches[-1], part, place - 1) if branches else part
            branches.append(_clip(norm(conv(entering))))
        answer: Tensor = self.bn3(self.conv3(torch.cat(branches, dim=1)))
        return _clip(answer + self.shortcut(hidden))

    def _join(self, before: Tensor, part: Tensor, place: int) -> Tensor:
        if self.fuse_models is None:
            return before + part
        fused: Tensor = self.fuse_models[place](before, part)
        return fused


class Fusion(nn.Module):
    """Two maps weighted against each other by what is in both (attentional feature fusion).

    Args:
        channels: Channels of each.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local_att = nn.Sequential(
            nn.Conv2d(2 * channels, channels // 4, 1),
            nn.BatchNorm2d(channels // 4),
            nn.SiLU(),
            nn.Conv2d(channels // 4, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Join two (B, C, F, T)."""
        share = torch.tanh(self.local_att(torch.cat([first, second], dim=1)))
        return first * (1.0 + share) + second * (1.0 - share)


def _clip(hidden: Tensor) -> Tensor:
    return hidden.clamp(0.0, _LIMIT)
