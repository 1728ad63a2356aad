"""Semantic tokens, 25 a second: speech features by the nearest entry of a SoVITS file's codebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tts_train.contract import DataError
from tts_train.weights import read_torch
from tts_train_gpt_sovits.features.weights import TINY, fingerprint
from tts_train_gpt_sovits.networks.sovits.quantizer import Quantizer
from tts_train_gpt_sovits.released.bases import base_file
from tts_train_gpt_sovits.released.recognise import CONFIG_CLASSES, recognise
from tts_train_gpt_sovits.released.sovits_names import load_upstream, to_upstream
from tts_train_gpt_sovits.signal.versions import FEATURES

PARTS = ("ssl_proj.", "quantizer.")
"""Beginnings of the released names of what makes the tokens."""
_TRAINING_ONLY = ("quantizer.vq.layers.0._codebook.inited", "quantizer.vq.layers.0._codebook.cluster_size",
                  "quantizer.vq.layers.0._codebook.embed_avg")  # fmt: skip
_SEED = 20_251


class SemanticTokenizer(nn.Module):
    """The part of a SoVITS generator that makes tokens, with the same names inside as `SovitsNetwork`."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_projection = nn.Conv1d(FEATURES, FEATURES, 2, stride=2)
        self.quantizer = Quantizer(channels=FEATURES)

    def forward(self, features: Tensor) -> Tensor:
        """Return the tokens (B, T // 2) of features (B, 768, T)."""
        # A kernel of two frames with a stride of two: 50 frames a second become 25 tokens, and an odd frame at the end
        # is left over.
        return self.quantizer.encode(self.feature_projection(features))


class SemanticTokens:
    """Features to tokens, one clip at a time: the work is a thousandth of that of the features.

    Args:
        network: Projection and codebook.
        device: Where it computes.
    """

    def __init__(self, network: SemanticTokenizer, *, device: str | torch.device = "cpu") -> None:
        network.requires_grad_(False).eval().to(device)
        self.network = network
        self.fingerprint = quantizer_fingerprint(to_upstream(network))
        self.device = torch.device(device)

    @classmethod
    def load(cls, source: str, device: str | torch.device = "cpu") -> SemanticTokens:
        """Return the tokens of a SoVITS base file, of a version's released one, or of a codebook of chance (``tiny``).

        Raises:
            ConfigError: if there is no such file.
            DataError: if it holds no codebook.
            UnsafeFileError: if it could run code.
        """
        if source == TINY:
            return cls(tiny_tokenizer(), device=device)
        network = SemanticTokenizer()
        load_upstream(network, _read(base_file(source, "s2G")), omitted=_TRAINING_ONLY)
        return cls(network, device=device)

    @torch.no_grad()
    def encode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the tokens, int64 (T // 2,) on the CPU, of speech features (T, 768).

        Raises:
            DataError: if a clip has less than two frames.
        """
        for index, each in enumerate(features):
            if each.ndim != 2 or each.shape[1] != FEATURES or len(each) < 2:
                raise DataError(f"Clip {index} has features {tuple(each.shape)}, and (2 or more, {FEATURES}) are due.")
        # In 16 bits another entry may come out nearest. Upstream computes in float16 on a GPU and in float32 on a CPU
        # (prepare_datasets/3-get-semantic.py), and so may get other tokens there; here both get the same.
        with torch.autocast(self.device.type, enabled=False):
            return [self.network(each.to(self.device).float().t()[None])[0].cpu() for each in features]


def quantizer_fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Return what tells one token-making network from another, of a file's weights by their released names.

    Only what decides tokens counts: projection and codebook entries, in half precision, so that an export has the
    fingerprint of the network it was made of.
    """
    # Exports are stored in half precision, and must get the same fingerprint.
    used = {name: tensor.half() for name, tensor in weights.items() if name.startswith(PARTS)}
    return fingerprint({name: tensor for name, tensor in used.items() if name not in _TRAINING_ONLY})


def tiny_tokenizer() -> SemanticTokenizer:
    """Return a tokenizer of chance: the mean of two frames, by direction among 1,024 random ones.

    That is the random-projection quantizer of Chiu et al. 2022 (arXiv 2202.01855). It is drawn from a seed alone and so
    the same on every machine.
    """
    network = SemanticTokenizer()
    source = torch.Generator().manual_seed(_SEED)
    entries = torch.randn(network.quantizer.embedding.shape, generator=source)
    with torch.no_grad():
        network.feature_projection.weight.copy_(0.5 * torch.eye(FEATURES)[:, :, None])
        network.feature_projection.bias.zero_()  # type: ignore[union-attr]
        network.quantizer.embedding.copy_(entries / entries.norm(dim=1, keepdim=True))
        network.quantizer.sums.copy_(network.quantizer.embedding)
        network.quantizer.counts.fill_(1.0)
        network.quantizer.initialised.fill_(1.0)
    return network


def _read(path: Path) -> dict[str, Tensor]:
    """Return projection and codebook of a generator's file, found by their names whatever the file's version."""
    found = recognise(path)
    if found.kind not in ("s2G", "s2G_training"):
        raise DataError(f"{path} is {found.kind} of {found.version}; semantic tokens need a SoVITS generator (s2G).")
    content = read_torch(path, head=found.head, dict_classes=CONFIG_CLASSES)
    weights = content["weight" if found.kind == "s2G" else "model"]
    return {name: tensor.float() for name, tensor in weights.items() if name.startswith(PARTS)}
