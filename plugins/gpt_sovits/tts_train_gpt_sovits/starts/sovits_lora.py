"""Low-rank adapters on the flow-matching estimator, named as in upstream's LoRA files (arXiv 2106.09685)."""

from __future__ import annotations

from torch import nn

from tts_train.nn.seeded import drawn_on_cpu
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.released.sovits_names import LORA_TARGETS

_SEED = 0x50A1


def add_adapters(network: FlowSovitsNetwork, rank: int) -> None:
    """Put adapters of a rank on the attention of the estimator, and freeze the rest of it, in place.

    The style encoder, bridge, refinement and mel projection stay trainable whole, as upstream trains them. Scale is 1.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=LORA_TARGETS, init_lora_weights=True)
    # All processes must start from the same adapters, and the run's own random stream is left alone.
    with drawn_on_cpu(_SEED, like=network.bridge.weight):
        adapted = get_peft_model(network.matching, config)
    network.matching = adapted


def merge(network: FlowSovitsNetwork) -> None:
    """Add the adapters to the matrices they sit on and take them out, in place."""
    matching: nn.Module = network.matching.merge_and_unload()  # type: ignore[operator]
    network.matching = matching  # type: ignore[assignment]
    network.matching.requires_grad_(True)
