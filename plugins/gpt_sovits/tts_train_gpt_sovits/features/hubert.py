"""Speech features, 50 a second: the last hidden states of a Chinese HuBERT (Hsu et al. 2021, arXiv 2106.07447)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

import soxr
import torch
from torch import Tensor
from torch.nn.utils.parametrize import remove_parametrizations
from torch.nn.utils.rnn import pad_sequence

from tts_train.contract import DataError
from tts_train_gpt_sovits.features.batching import like_length, side_by_side, step_mask
from tts_train_gpt_sovits.features.weights import TINY, draw, fill, fingerprint, freeze, read_folder
from tts_train_gpt_sovits.released.bases import base_folder
from tts_train_gpt_sovits.signal.audio import feature_wave
from tts_train_gpt_sovits.signal.versions import FEATURES

if TYPE_CHECKING:
    from transformers import HubertModel

SAMPLE_RATE = 32_000
LOUDEST = 2.2
"""Peak above which the released preparation leaves a clip out."""
_NETWORK_RATE = 16_000
_HOP = 640
"""Samples a frame, before they are resampled."""
_SHORTEST = 0.06
"""Seconds below which there are not two frames, which one semantic token needs."""
_BATCH_FRAMES = {"cpu": 800, "cuda": 12_000}
"""Frames that go through the encoder together: a CPU is busy with one clip of some seconds, a GPU with many."""
_RENAMED = (
    ("hubert.", ""),
    ("conv.weight_g", "conv.parametrizations.weight.original0"),
    ("conv.weight_v", "conv.parametrizations.weight.original1"),
)
_UNUSED_IN_EVAL = "masked_spec_embed"
_TINY_SEED = 20_261
_SEGMENTS, _SEGMENT = 150, 1_280
"""80 ms of one sound each; 12 s in all."""


class HubertFeatures:
    """Clips to features, the same for a clip whatever else is in its batch.

    The first convolution is followed by a group norm over the whole time, which padding would change; so each clip
    goes through the convolutions alone, and only the encoder, whose mask hides padding wholly, sees batches.

    Args:
        network: A HuBERT with 768 channels; it is put into evaluation mode.
        name: Its fingerprint.
        device: Where it computes.
        precision: ``float16`` for autocast, which upstream's GPU features have; a clip that overflows there is done
            again in float32.
    """

    def __init__(
        self,
        network: HubertModel,
        *,
        name: str,
        device: str | torch.device = "cpu",
        precision: Literal["float32", "float16"] = "float32",
    ) -> None:
        freeze(network, device)
        self.network = network
        self.fingerprint = name
        self.device = torch.device(device)
        self.half = precision == "float16"

    @classmethod
    def load(
        cls, source: str, device: str | torch.device = "cpu", *, precision: Literal["float32", "float16"] = "float32"
    ) -> HubertFeatures:
        """Return the network of a folder, of a hub name, ``released``, or a small one of chance for ``tiny``.

        Raises:
            ConfigError: if there is no such network.
            DataError: if it is not a HuBERT with 768 channels.
            UnsafeFileError: if its weights could run code.
        """
        if source == TINY:
            network, name = tiny_hubert()
        else:
            network, name = _read(source)
        return cls(network, name=name, device=device, precision=precision)

    @torch.no_grad()
    def encode(self, waves: Sequence[Tensor]) -> list[Tensor]:
        """Return the features, float32 (T, 768) on the CPU, of clips (N,) at 32 kHz, full scale 1.

        Raises:
            DataError: if a clip has a fault; see `clip_fault`, which tells before.
        """
        for index, wave in enumerate(waves):
            if fault := clip_fault(wave):
                raise DataError(f"Clip {index} cannot be encoded: {fault}. Leave it out.")
        frames = [len(wave) // _HOP for wave in waves]
        groups = like_length(frames, _BATCH_FRAMES.get(self.device.type, 0))
        answers = side_by_side(lambda group: self._encode([waves[i] for i in group]), groups, self.device)
        done = {
            # In float16 some clips overflow and come out as NaN; upstream, too, does them again in float32.
            index: features if torch.isfinite(features).all() else self._again(index, waves[index])
            for group, answer in zip(groups, answers, strict=True)
            for index, features in zip(group, answer, strict=True)
        }
        return [done[index].float().cpu() for index in range(len(waves))]

    def _encode(self, waves: Sequence[Tensor]) -> list[Tensor]:
        return self._contextualise([self._listen(wave) for wave in waves])

    def _listen(self, wave: Tensor) -> Tensor:
        """Return what the encoder takes of one clip, (T, 768)."""
        # At upstream's scale of 1145.14 and not normalised: the released tokens were made so
        # (prepare_datasets/2-get-hubert-wav32k.py). soxr in its high quality is what librosa resamples with there.
        samples = torch.from_numpy(soxr.resample(feature_wave(wave.float()).numpy(), SAMPLE_RATE, _NETWORK_RATE))
        with self._precision():
            heard = self.network.feature_extractor(samples.to(self.device)[None]).transpose(1, 2)
            projected: Tensor = self.network.feature_projection(heard)[0]
        return projected

    def _contextualise(self, hidden: Sequence[Tensor]) -> list[Tensor]:
        frames = [len(each) for each in hidden]
        with self._precision():
            batch = pad_sequence(list(hidden), batch_first=True)
            answer = self.network.encoder(batch, attention_mask=step_mask(frames, self.device)).last_hidden_state
        return [row[:count] for row, count in zip(answer, frames, strict=True)]

    def _again(self, index: int, wave: Tensor) -> Tensor:
        precise = HubertFeatures(self.network, name=self.fingerprint, device=self.device)
        features = precise._encode([wave])[0]
        if not torch.isfinite(features).all():
            raise DataError(f"The features of clip {index} are not finite. Are the network's weights whole?")
        return features

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.float16, enabled=self.half)


def clip_fault(wave: Tensor) -> str | None:
    """Return why a clip (N,) at 32 kHz has no features, as a reason that rows are dropped for; None if it has.

    ``too_short``, ``non_finite``, ``silent``, and ``clipped`` for a peak above 2.2.
    """
    if len(wave) < _SHORTEST * SAMPLE_RATE:
        return "too_short"
    peak = wave.abs().max()
    if not torch.isfinite(peak):
        return "non_finite"
    return "silent" if peak == 0 else "clipped" if peak > LOUDEST else None


def _read(source: str) -> tuple[HubertModel, str]:
    from transformers import HubertConfig, HubertModel

    folder = base_folder(source, "hubert")
    config, weights = read_folder(folder)
    if config.get("model_type", "hubert") != "hubert" or config.get("hidden_size") != FEATURES:
        raise DataError(f"{folder} is not a HuBERT of {FEATURES} channels. Give a folder of chinese-hubert-base.")
    network = HubertModel(HubertConfig.from_dict(config))
    named = _rename(weights)
    if hasattr(network, _UNUSED_IN_EVAL):
        # A file may lack the vector that masks frames in pretraining; nothing reads it here.
        named.setdefault(_UNUSED_IN_EVAL, network.state_dict()[_UNUSED_IN_EVAL])
    fill(network, named, source=str(folder))
    name = fingerprint(network.state_dict())
    bake(network)
    return network, name


def bake(network: HubertModel) -> None:
    """Compute the weight norm of the positional convolution once, not at every clip."""
    remove_parametrizations(network.encoder.pos_conv_embed.conv, "weight")


def _rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in weights.items():
        for old, new in _RENAMED:
            name = name.replace(old, new)
        renamed[name] = tensor
    return renamed


def tiny_hubert() -> tuple[HubertModel, str]:
    """Return a HuBERT of two narrow layers whose features follow the sound, and its fingerprint.

    Features of a network of chance differ little from frame to frame, and every frame would get the same semantic
    token. Therefore its last norm is set so that the features of some made-up speech have mean 0 and deviation 1.
    """
    from transformers import HubertConfig, HubertModel

    sizes = HubertConfig(
        conv_dim=(32,) * 7, num_hidden_layers=2, num_attention_heads=12, intermediate_size=64,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=16, mask_time_prob=0.0,
    )  # fmt: skip
    network = HubertModel(sizes).eval()
    draw(network, _TINY_SEED)
    # Before the last norm is set: what a machine computes may differ from another's in the last bit.
    name = fingerprint(network.state_dict())
    with torch.inference_mode():
        features = network(made_up_speech()[None]).last_hidden_state[0].clone()
    last = network.encoder.layers[-1].final_layer_norm
    with torch.no_grad():
        deviation, mean = torch.std_mean(features, dim=0)
        last.weight.copy_(1.0 / deviation)
        last.bias.copy_(-mean / deviation)
    return network, name


def made_up_speech() -> Tensor:
    """Return samples (N,) at 16 kHz in which pulses and noise take on one smooth spectrum after another."""
    source = torch.Generator().manual_seed(_TINY_SEED + 3)
    noise = torch.randn(_SEGMENTS, _SEGMENT, generator=source)
    pulses = torch.zeros(_SEGMENTS, _SEGMENT)
    for row, period in zip(pulses, torch.randint(50, 180, (_SEGMENTS,), generator=source).tolist(), strict=True):
        row[::period] = period**0.5
    voiced = torch.rand(_SEGMENTS, 1, generator=source) < 0.7
    heights = torch.randn(_SEGMENTS, 1, 10, generator=source)
    spectrum = torch.fft.rfft(torch.where(voiced, pulses, 0.3 * noise))
    smooth = torch.nn.functional.interpolate(heights, spectrum.shape[-1], mode="linear", align_corners=True)[:, 0]
    samples: Tensor = torch.fft.irfft(spectrum * torch.exp(2.0 * smooth - 2.0), n=_SEGMENT).flatten()
    return samples
