"""Small runs on the disk, from a base in the released layout: without the time that training takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, trainable_parameters
from tts_train.families.token_lm.network.build import build_network
from tts_train.families.token_lm.network.network import HeadOptions, TokenNetwork
from tts_train.families.token_lm.network.restore import load_initial
from tts_train.run.checkpoint import CARD_KEY, RunCard
from tts_train.run.directory import RunDirectory
from tts_train_qwen3_tts.model import QWEN3_TTS
from tts_train_qwen3_tts.stage import Qwen3TTSModule

STEP = 3


def write_run(
    folder: Path, *, init_from: Path, method: str = "full", voices: dict[str, Tensor] | None = None
) -> TokenNetwork:
    """Write a run that knows voices by their vectors (H,), and whose trained weights were moved away from the base."""
    given: dict[str, Any] = {"init_from": str(init_from), "method": method}
    lora = LoraOptions(rank=4, alpha=8.0)
    module = Qwen3TTSModule(**given, lora=lora)
    network = build_network(load_initial(QWEN3_TTS, str(init_from)), QWEN3_TTS.layout, HeadOptions())
    apply_method(network, method, lora, device="cpu")
    if voices:
        network.lm.take_voices(list(voices), torch.stack(list(voices.values())))
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted(trainable_parameters(network).items()):
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    module.network = network
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "global_step": STEP}
    module.on_save_checkpoint(checkpoint)
    config = {"model": {**given, "lora": {**vars(lora), "targets": list(lora.targets)}}, "data": {}}
    checkpoint[CARD_KEY] = RunCard(backend="qwen3_tts", stage="lm", config=config).as_dict()
    run = RunDirectory(folder)
    run.create()
    DirectoryCheckpointIO().save_checkpoint(checkpoint, run.step_path(STEP))
    run.update_record(backend="qwen3_tts", stage="lm")
    return network.eval()
