"""Upstream's settings of each version, which its inference reads from the files it loads."""

from __future__ import annotations

import copy
from typing import Any

from tts_train_gpt_sovits.signal.versions import find_version

_TRAIN: dict[str, Any] = {
    "log_interval": 100, "eval_interval": 500, "seed": 1234, "epochs": 100, "learning_rate": 1e-4,
    "betas": [0.8, 0.99], "eps": 1e-9, "batch_size": 32, "fp16_run": True, "lr_decay": 0.999875,
    "segment_size": 20480, "init_lr_ratio": 1, "warmup_epochs": 0, "c_mel": 45, "c_kl": 1.0,
    "text_low_lr_rate": 0.4, "grad_ckpt": False,
}  # fmt: skip
_DATA: dict[str, Any] = {
    "max_wav_value": 32768.0, "sampling_rate": 32000, "filter_length": 2048, "hop_length": 640, "win_length": 2048,
    "n_mel_channels": 128, "mel_fmin": 0.0, "mel_fmax": None, "add_blank": True, "n_speakers": 300,
    "cleaned_text": True,
}  # fmt: skip
_MODEL: dict[str, Any] = {
    "inter_channels": 192, "hidden_channels": 192, "filter_channels": 768, "n_heads": 2, "n_layers": 6,
    "kernel_size": 3, "resblock": "1", "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]], "upsample_rates": [10, 8, 2, 2, 2],
    "n_layers_q": 3, "use_spectral_norm": False, "semantic_frame_rate": "25hz", "freeze_quantizer": True,
}  # fmt: skip


def s2_config(version: str, *, name: str = "") -> dict[str, Any]:
    """Return the settings of a SoVITS version as a fresh table that `write_s2` takes.

    Args:
        version: Its name.
        name: Name of the voice, kept in the file.
    """
    row = find_version(version)
    model = {
        **_MODEL,
        "p_dropout": row.dropout,
        "upsample_initial_channel": row.wave_channels,
        "upsample_kernel_sizes": list(row.upsample_kernels),
        "gin_channels": row.style,
        "version": version,
    }
    tables = {"train": _TRAIN, "data": _DATA, "model": model, "content_module": "cnhubert"}
    return copy.deepcopy({**tables, "name": name, "version": version})


def s1_config(model: dict[str, Any], *, max_sec: float = 54) -> dict[str, Any]:
    """Return the settings of a GPT file that `write_s1` takes.

    Args:
        model: Sizes, as ``config_to_upstream`` gives them.
        max_sec: What the file says; upstream's inference stops after 50 codes for each of it, 2 seconds of speech.
    """
    train = {"seed": 1234, "epochs": 15, "batch_size": 8, "precision": "16-mixed", "gradient_clip": 1.0}
    rates = {"lr": 0.01, "lr_init": 1e-5, "lr_end": 1e-4, "warmup_steps": 2000, "decay_steps": 40000}
    return copy.deepcopy(
        {
            "train": train,
            "optimizer": rates,
            "data": {"max_eval_sample": 8, "max_sec": max_sec, "num_workers": 4, "pad_val": model["EOS"]},
            "model": dict(model),
            "inference": {"top_k": 15},
        }
    )
