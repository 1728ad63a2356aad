"""Finds the two networks that speak together, and what they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from tts_train.contract import ConfigError, is_run, open_checkpoint
from tts_train.datasets import PreparedSet, prepared_facts
from tts_train.disk import export_card
from tts_train_gpt_sovits.networks.gpt.network import GptNetwork
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.preparing.models import TINY
from tts_train_gpt_sovits.released import recognise
from tts_train_gpt_sovits.released.bases import REPOSITORY, place_in_models
from tts_train_gpt_sovits.starts.gpt import STAGES, load_initial
from tts_train_gpt_sovits.starts.sovits_restore import load_generator

N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The sources of both networks."""

    gpt: str
    sovits: str
    data: str | None
    """Prepared set whose utterances can be continued: the one that ``source`` was trained on, or another."""
    known: Mapping[str, Any]
    """What is known of that set; empty if it is not here any more."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What that set was prepared with."""
        settings: Mapping[str, Any] = self.known.get("settings", {})
        return settings

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages of that set, the most frequent first."""
        return tuple(self.known.get("languages", ()))


def find_pair(
    source: Path, *, gpt: str | None, sovits: str | None, version: str | None, voice: Path | None = None
) -> Pair:
    """Return both sources: ``source`` is one of them, the other is named, or the base that the data were made with.

    Args:
        source: A run, a checkpoint, an export or a file of upstream's, of either network.
        gpt: The other, where ``source`` is a SoVITS.
        sovits: The other, where ``source`` is a GPT.
        version: Released version that the other is of, where nothing else says.
        voice: Prepared set in place of the one that ``source`` was trained on.

    Raises:
        ConfigError: if both or none are the same network, or the other is not known.
    """
    own = _file_in(source)
    is_gpt = _is_gpt(own)
    card = open_checkpoint(own).card if is_run(own) else None
    trained_on = card.options("data", "path").get("path") if card else None
    known = card.prepared if card and not voice else {}
    # A run on takes knows the set that they continue; they hold no recordings themselves.
    data = str(voice) if voice else known.get("voice") or trained_on
    if not known and data:  # cards of old say nothing themselves
        known = prepared_facts(data)
    settings = known.get("settings", {})
    option, given, twice = ("--sovits", sovits, gpt) if is_gpt else ("--gpt", gpt, sovits)
    if twice is not None:
        kind = "GPT" if is_gpt else "SoVITS"
        raise ConfigError(f"{source} is a {kind} already. Name the other network with {option}.")
    if given is None:
        given = settings.get("sovits") if is_gpt else version or settings.get("version")
        # A released GPT would not know the tiny codebook's tokens.
        if settings.get("models") == "tiny" and not is_gpt:
            given = None
    if given is None:
        raise ConfigError(f"{source} is one of two networks that speak together. Name the other: {option} PATH.")
    pair = (str(own), given) if is_gpt else (given, str(own))
    return Pair(gpt=pair[0], sovits=pair[1], data=data, known=known)


def open_gpt(source: str, device: torch.device) -> GptNetwork:
    """Load a GPT that only speaks: a run, a file, or a released version's name."""
    return _still(load_initial(source), device)


def open_sovits(source: str, *, version: str | None, device: torch.device) -> tuple[SovitsNetwork | None, str]:
    """Load a SoVITS that only speaks, and return it with its version; None for one that ends at a mel spectrogram."""
    loaded = load_generator(source, version=version, speaking=True)
    network = loaded.network
    return _still(network, device) if isinstance(network, SovitsNetwork) else None, loaded.version


def local_sovits(data: PreparedSet, device: torch.device) -> tuple[SovitsNetwork, str]:
    """Load the SoVITS that a set was prepared with, from this machine, and return it with its version.

    Raises:
        ConfigError: if it is not known, would have to be downloaded, or makes no sound by itself.
    """
    from huggingface_hub import try_to_load_from_cache

    source, version = data.settings.get("sovits"), data.settings.get("version")
    if source is None or version is None or "wave" not in data.rows.names:
        raise ConfigError(f"{data.path} does not say which SoVITS made it; `tts-train prepare` writes sets that do.")
    if source != TINY and not Path(source).expanduser().exists():
        # A run must not begin to download in the middle of its training.
        cached = try_to_load_from_cache(REPOSITORY, place_in_models("s2G", version))
        if not isinstance(cached, str):
            raise ConfigError(
                f"The SoVITS {source} is not on this machine, and training downloads nothing to be heard. Run any "
                "command that uses it once (tts-train synth), or set --listen.sentences 0."
            )
    network, found = open_sovits(source, version=version, device=device)
    if network is None:
        raise ConfigError(f"SoVITS {version} is sounded by a vocoder of upstream's, which is not here.")
    return network, found


def _still(network: N, device: torch.device) -> N:
    return network.requires_grad_(False).eval().to(device)


def _file_in(source: Path) -> Path:
    """Return the exported file in a folder of ours, or what was given."""
    card = export_card(source)
    if card is None:
        return source
    names = {"s1": "*.ckpt", "s2": "*.pth", "full": "s2G.pth"}
    files = sorted(source.glob(names.get(str(card.format), "*")))
    if not files:
        raise ConfigError(f"{source} holds no exported weights any more. Export them again.")
    # The last one written, where several steps were exported into one folder.
    return max(files, key=lambda file: file.stat().st_mtime_ns)


def _is_gpt(source: Path) -> bool:
    if is_run(source):
        return open_checkpoint(source).card.stage in STAGES
    return recognise(source).kind.startswith("s1")
