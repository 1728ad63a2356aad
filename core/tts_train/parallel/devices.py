"""Which device a job computes on, and how worker processes share the cards of a machine."""

from __future__ import annotations

import os

from tts_train.errors import ConfigError

_WORKER = "TTS_TRAIN_WORKER"


def choose_device(device: str) -> str:
    """Return ``cpu``, ``cuda`` or a device such as ``cuda:1`` for what the user said; ``auto`` prefers a GPU.

    Raises:
        ConfigError: if it is no device, or not on this machine.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"--device is auto, cpu, cuda or cuda:N, not {device!r}.") from error
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {device}: this machine has {torch.cuda.device_count()} CUDA devices. Use auto.")
    return device


def set_worker(number: int) -> None:
    """Tell this process which of several workers it is; each takes its own GPU, in turn."""
    os.environ[_WORKER] = str(number)


def own_device(device: str) -> str:
    """Return the device of this process: with ``cuda``, workers take the GPUs in turn."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{int(os.environ.get(_WORKER, '0')) % torch.cuda.device_count()}"
