"""Small files with every name of the real ones: same tables, same marks, a few numbers in place of each tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tts_train_gpt_sovits.released.gpt_names import config_to_upstream
from tts_train_gpt_sovits.released.shapes import Shapes
from tts_train_gpt_sovits.signal.versions import GptConfig

SMALL_GPT = GptConfig(width=32, heads=2, layers=2)
GAN = ("v1", "v2", "v2Pro", "v2ProPlus")
TOLD_BY_SIZE = ("enc_p.text_embedding.weight", "dec.conv_pre.weight")


def shrunk(shapes: Shapes) -> Shapes:
    """The same names with at most two entries an axis, but for the axes that versions are told by."""
    return {
        name: (shape[0], *(1 for _ in shape[1:])) if name in TOLD_BY_SIZE else tuple(min(size, 2) for size in shape)
        for name, shape in shapes.items()
    }


def seeded(shapes: Shapes, seed: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


def save(path: Path, content: Mapping[str, Any], mark: bytes = b"PK") -> Path:
    """Save as upstream does, with a version's mark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(content), path)
    path.write_bytes(mark + path.read_bytes()[2:])
    return path


def gpt_config(config: GptConfig = SMALL_GPT) -> dict[str, Any]:
    return {"model": config_to_upstream(config), "data": {"max_sec": 54}}
