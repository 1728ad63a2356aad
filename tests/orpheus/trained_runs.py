"""Small runs on the disk: real networks, adapters and checkpoints, without the time that training takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.orpheus.family import OrpheusNetwork, load_base
from tts_train.checkpoints.folder_io import DirectoryCheckpointIO
from tts_train.families.token_lm.network.adapters import LoraOptions, apply_method, trainable_parameters
from tts_train.families.token_lm.network.network import HeadOptions
from tts_train.families.token_lm.network.start import TinyOptions
from tts_train.run.checkpoint import CARD_KEY, RunCard
from tts_train.run.directory import RunDirectory
from tts_train_orpheus.stage import OrpheusModule

STEP = 3


def write_run(
    folder: Path,
    *,
    init_from: str = "tiny",
    data: Path | None = None,
    val_share: float = 0.05,
    change: Callable[[OrpheusNetwork], None] | None = None,
    **model: Any,
) -> OrpheusNetwork:
    """Write a run whose trained weights were moved away from the base; return its network, adapters in place.

    ``change`` may move them further before they are written.
    """
    lora = LoraOptions(**{"rank": 4, "alpha": 8.0, **model.get("lora", {})})
    head = HeadOptions(**model.get("head", {}))
    tiny = TinyOptions(**model.get("tiny", {}))
    module = OrpheusModule(init_from=init_from, method=model.get("method", "full"), lora=lora, head=head, tiny=tiny)
    network = OrpheusNetwork(load_base(init_from, tiny=tiny), head)
    apply_method(network, module.method, lora, device="cpu")
    move(network)
    if change is not None:
        change(network)
    module.network = network
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "global_step": STEP}
    module.on_save_checkpoint(checkpoint)
    config = {"model": {"init_from": init_from, **model, "lora": {**vars(lora), "targets": list(lora.targets)}}}
    config["data"] = {"path": str(data), "val_share": val_share, "seed": 0} if data else {}
    checkpoint[CARD_KEY] = RunCard(backend="orpheus", stage="lm", config=config).as_dict()
    run = RunDirectory(folder)
    run.create()
    DirectoryCheckpointIO().save_checkpoint(checkpoint, run.step_path(STEP))
    run.update_record(backend="orpheus", stage="lm")
    return network.eval()


def move(network: OrpheusNetwork) -> None:
    """Add a seeded amount to every trained weight, large enough to be heard in the logits."""
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted(trainable_parameters(network).items()):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
