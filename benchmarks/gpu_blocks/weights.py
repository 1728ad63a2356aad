"""Weights of chance made where they are used: 3.3 billion take 39 s on a CPU and a tenth of a second on a card."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch


@contextmanager
def orpheus_on(device: str) -> Iterator[None]:
    """Let ``--model.init_from tiny`` fill its network on a device."""
    import tts_train.families.token_lm.network.start as base

    def made(token_lm: Any, tiny: Any, dtype: torch.dtype) -> Any:
        return llama(token_lm.tiny_config(tiny), dtype=dtype, device=device, seed=tiny.seed)

    with patch.object(base, "_tiny", made):
        yield


def llama(config: Any, *, dtype: torch.dtype, device: str, seed: int = 0) -> Any:
    """Return a Llama on a device, its matrices normal and its norms one, without a copy on the host."""
    from tts_train.families.token_lm.network.start import empty_network

    lm = empty_network(config, dtype=dtype, device=device)
    generator = torch.Generator(device).manual_seed(seed)
    embedding = lm.get_input_embeddings().weight
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                std = config.hidden_size**-0.5 if parameter is embedding else 0.02
                parameter.normal_(std=std, generator=generator)
            else:
                parameter.fill_(1.0)
    return lm


@contextmanager
def sovits_on(device: str, *, real: bool = True) -> Iterator[None]:
    """Let released SoVITS versions be built at their sizes from chance, on a device, since their files do not travel.

    With ``real`` false nothing is changed: a dry run takes the stage's own tiny networks.
    """
    if not real:
        yield
        return
    from tts_train_gpt_sovits.networks.sovits.build import build_critics, build_flow_network, build_network
    from tts_train_gpt_sovits.released.bases import s2_config
    from tts_train_gpt_sovits.signal.versions import find_version
    from tts_train_gpt_sovits.stages.sovits import cfm_module, module
    from tts_train_gpt_sovits.starts.sovits_base import LoadedCritics, LoadedGenerator, with_tiny_semantics

    def generator(source: str, *, version: str | None = None, freeze_quantizer: bool = True, **_: Any) -> Any:
        name = version or source
        sizes = s2_config(name)["model"]
        torch.manual_seed(0)
        with torch.device(device):
            flow = find_version(name).kind == "flow"
            built = (
                build_flow_network(name, sizes=sizes)
                if flow
                else build_network(name, sizes=sizes, freeze_quantizer=freeze_quantizer)
            )
        return LoadedGenerator(network=with_tiny_semantics(built), version=name, sizes=sizes)

    def critics(_source: str, *, version: str, shrink: int = 1) -> Any:
        with torch.device(device):
            return LoadedCritics(network=build_critics(version, shrink=shrink))

    with (
        patch.object(module, "load_generator", generator),
        patch.object(module, "load_critics", critics),
        patch.object(cfm_module, "load_generator", generator),
    ):
        yield


def precision_of(precision: str, job: Any) -> str:
    """Return a precision that the device has: a CPU has no 16-mixed, and convolves slowly in bfloat16."""
    return "32-true" if precision.startswith("16") and not job.cuda else precision
