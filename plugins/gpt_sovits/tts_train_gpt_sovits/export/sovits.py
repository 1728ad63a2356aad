"""Exports of SoVITS: ``s2`` for upstream's inference, ``full`` to train on from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tts_train.contract import ExportJob, ExportReport

if TYPE_CHECKING:
    from tts_train.contract import Checkpoint
    from tts_train_gpt_sovits.starts.sovits_restore import TrainedSovits

_log = logging.getLogger(__name__)

_FIXED = 192
"""Channels at which upstream's network joins text and speech, whatever the file's settings say."""


@dataclass(kw_only=True)
class S2Export(ExportJob):
    """Write ``NAME_eEPOCH_sSTEP.pth`` in half precision for ``SoVITS_weights*``, which upstream's inference loads.

    Adapters of v3 and v4 are written as upstream's LoRA file. Upstream can not train on from this; see ``full``.
    """

    def run(self) -> ExportReport:
        """Write the file, read it back and compare."""
        from tts_train.contract import open_checkpoint
        from tts_train_gpt_sovits.export.target import find_target, voice_name
        from tts_train_gpt_sovits.released import write_s2
        from tts_train_gpt_sovits.released.shapes import shapes_of
        from tts_train_gpt_sovits.released.sovits_names import to_upstream, upstream_names
        from tts_train_gpt_sovits.starts.adapters import trained_names
        from tts_train_gpt_sovits.starts.sovits_restore import load_run

        checkpoint = open_checkpoint(self.source)
        trained = load_run(checkpoint, merged=False)
        _warn_of_size(trained)
        epoch, rank, name = _epoch(checkpoint), trained.lora_rank, voice_name(self.source)
        ending = "" if rank is None else f"_l{rank}"
        target = find_target(self.out, f"{name}_e{epoch}_s{trained.step}{ending}.pth")
        weights, shapes = to_upstream(trained.network), shapes_of(trained.network)
        if rank is not None:
            names = upstream_names(trained.network)
            kept = {names[ours] for ours in trained_names(trained.network)}
            weights = {key: tensor for key, tensor in weights.items() if key in kept}
            shapes = {key: shape for key, shape in shapes.items() if key in kept}
        write_s2(
            target.path,
            weights,
            version=trained.version,
            config=_config(trained, name),
            info=f"{epoch}epoch_{trained.step}iteration",
            lora_rank=rank,
            shapes=shapes,
        )
        target.sign(checkpoint, "s2")
        files = [target.path.name]
        return ExportReport(format="s2", path=str(target.path), files=files, verified=True, step=trained.step)


@dataclass(kw_only=True)
class FullExport(ExportJob):
    """Write ``s2G.pth`` and ``s2D.pth``, laid out as the released bases, from which training can start again.

    Ours takes them by ``--model.init_from``, upstream's as its pretrained files.
    """

    def run(self) -> ExportReport:
        """Write the files, read them back and compare."""
        from tts_train.contract import ConfigError, open_checkpoint
        from tts_train.disk import check_place, staged_folder
        from tts_train_gpt_sovits.export.target import Target, voice_name
        from tts_train_gpt_sovits.released import write_critics, write_full
        from tts_train_gpt_sovits.released.shapes import shapes_of
        from tts_train_gpt_sovits.released.sovits_names import to_upstream
        from tts_train_gpt_sovits.signal.versions import find_version
        from tts_train_gpt_sovits.starts.sovits_restore import load_run

        if self.out.suffix == ".pth":
            raise ConfigError(f"--out {self.out}: this format is a folder of two files. Give a folder.")
        check_place(self.out)
        checkpoint = open_checkpoint(self.source)
        trained = load_run(checkpoint)
        _warn_of_size(trained)
        version, info = trained.version, f"{_epoch(checkpoint)}epoch_{trained.step}iteration"
        with staged_folder(self.out) as folder:
            config, shapes = _config(trained, voice_name(self.source)), shapes_of(trained.network)
            weights = to_upstream(trained.network)
            write_full(folder / "s2G.pth", weights, version=version, config=config, info=info, shapes=shapes)
            if find_version(version).kind == "gan":
                critics = trained.critics()
                shapes = shapes_of(critics)
                write_critics(folder / "s2D.pth", to_upstream(critics), version=version, info=info, shapes=shapes)
            Target(path=folder, folder=folder).sign(checkpoint, "full")
        files = sorted(path.name for path in self.out.iterdir())
        return ExportReport(format="full", path=str(self.out), files=files, verified=True, step=trained.step)


def _epoch(checkpoint: Checkpoint) -> int:
    return int(checkpoint.state("epoch")["epoch"]) + 1


def _warn_of_size(trained: TrainedSovits) -> None:
    channels = trained.sizes.get("hidden_channels", _FIXED)
    if channels != _FIXED:
        _log.warning(
            "Upstream opens networks of %d channels only, and this one has %s: the file is for tts-train. A small "
            "network that upstream opens is trained with --model.init_from tiny --model.tiny.channels %d.",
            _FIXED,
            channels,
            _FIXED,
        )


def _config(trained: TrainedSovits, name: str) -> dict[str, object]:
    from tts_train_gpt_sovits.released import s2_config

    config = s2_config(trained.version, name=name)
    return {**config, "model": {**config["model"], **trained.sizes}}
