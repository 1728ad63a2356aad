"""Small networks of chance in the layout of the released ones, for tests and demonstrations without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tts_train_gpt_sovits.features.eres2net import ERes2NetV2
from tts_train_gpt_sovits.features.weights import draw, fingerprint

if TYPE_CHECKING:
    from transformers import BertModel, HubertModel

_SEED = 20_261
_SEGMENTS, _SEGMENT = 150, 1_280
"""80 ms of one sound each; 12 s in all."""


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
    draw(network, _SEED)
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


def tiny_bert() -> tuple[BertModel, str]:
    """Return a BERT of one narrow layer with 1,024 channels, and its fingerprint."""
    from transformers import BertConfig, BertModel

    sizes = BertConfig(
        vocab_size=512, hidden_size=1024, num_hidden_layers=1, num_attention_heads=16, intermediate_size=64
    )
    network = BertModel(sizes, add_pooling_layer=False)
    draw(network, _SEED + 1)
    return network, fingerprint(network.state_dict())


def tiny_speaker() -> tuple[ERes2NetV2, str]:
    """Return a speaker network of one narrow block a stage with 20,480 outputs, and its fingerprint."""
    network = ERes2NetV2(blocks=(1, 1, 1, 1), planes=(8, 8, 16, 512), base_width=16)
    draw(network, _SEED + 2)
    return network, fingerprint(network.state_dict())


def made_up_speech() -> Tensor:
    """Return samples (N,) at 16 kHz in which pulses and noise take on one smooth spectrum after another."""
    source = torch.Generator().manual_seed(_SEED + 3)
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
