"""Exports that upstream's tools load: `s1` of a GPT, `s2` of a SoVITS for inference, `full` to train on from."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tts_train.contract import ExportJob, ExportReport

if TYPE_CHECKING:
    from tts_train.contract import Checkpoint
    from tts_train_gpt_sovits.starts.sovits_restore import TrainedSovits


_COUNTED, _DRAWN = 50, 25
"""Codes a second by which upstream's inference reads ``max_sec``, and those that it draws."""
_USUAL, _LIMIT = 54, 60
"""``max_sec`` in upstream's own files, and the seconds that it speaks at most whatever they say."""


@dataclass(kw_only=True)
class S1Export(ExportJob):
    """Write ``NAME-eEPOCH.ckpt`` in half precision, which upstream's inference loads and its training starts from.

    Adapters are merged first.
    """

    max_sec: float | None = None
    """Seconds after which upstream's inference cuts a sentence off; none says what upstream's own files say, with which
    it goes on to its limit of 60."""

    def run(self) -> ExportReport:
        """Write the file, read it back and compare.

        Raises:
            ConfigError: if ``max_sec`` is no length of speech.
        """
        from tts_train.contract import ConfigError, open_checkpoint
        from tts_train_gpt_sovits.released import s1_config, write_s1
        from tts_train_gpt_sovits.released.gpt_names import config_to_upstream, to_upstream
        from tts_train_gpt_sovits.starts.gpt import load_run

        if self.max_sec is not None and not 0 < self.max_sec <= _LIMIT:
            raise ConfigError(f"--max_sec must be above 0 and at most {_LIMIT}, and {self.max_sec:g} was given.")
        checkpoint = open_checkpoint(self.source)
        epoch = int(checkpoint.state("epoch")["epoch"]) + 1
        target = self.file(f"{self.run_name}-e{epoch}.ckpt")
        network = load_run(checkpoint)
        told = _USUAL if self.max_sec is None else self.max_sec * _DRAWN / _COUNTED
        config = s1_config(config_to_upstream(network.config), max_sec=told)
        write_s1(target.path, to_upstream(network.state_dict()), config=config, info=f"GPT-e{epoch}")
        target.sign(checkpoint.provenance("s1"))
        files = [target.path.name]
        return ExportReport(format="s1", path=str(target.path), files=files, verified=True, step=checkpoint.step)


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
        from tts_train_gpt_sovits.released import write_s2
        from tts_train_gpt_sovits.released.shapes import shapes_of
        from tts_train_gpt_sovits.released.sovits_names import to_upstream, upstream_names
        from tts_train_gpt_sovits.starts.adapters import trained_names
        from tts_train_gpt_sovits.starts.sovits_restore import load_run

        checkpoint = open_checkpoint(self.source)
        trained = load_run(checkpoint, merged=False)
        _warn_of_size(trained)
        epoch, rank, name = _epoch(checkpoint), trained.lora_rank, self.run_name
        ending = "" if rank is None else f"_l{rank}"
        target = self.file(f"{name}_e{epoch}_s{trained.step}{ending}.pth")
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
        target.sign(checkpoint.provenance("s2"))
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
        from tts_train_gpt_sovits.released import write_critics, write_full
        from tts_train_gpt_sovits.released.shapes import shapes_of
        from tts_train_gpt_sovits.released.sovits_names import to_upstream
        from tts_train_gpt_sovits.signal.versions import find_version
        from tts_train_gpt_sovits.starts.sovits_restore import load_run

        if self.out.suffix == ".pth":
            raise ConfigError(f"--out {self.out}: this format is a folder of two files. Give a folder.")
        self.require_folder()
        checkpoint = open_checkpoint(self.source)
        trained = load_run(checkpoint)
        _warn_of_size(trained)
        version, info = trained.version, f"{_epoch(checkpoint)}epoch_{trained.step}iteration"
        with self.folder(checkpoint.provenance("full")) as folder:
            config, shapes = _config(trained, self.run_name), shapes_of(trained.network)
            weights = to_upstream(trained.network)
            write_full(folder / "s2G.pth", weights, version=version, config=config, info=info, shapes=shapes)
            if find_version(version).kind == "gan":
                critics = trained.critics()
                shapes = shapes_of(critics)
                write_critics(folder / "s2D.pth", to_upstream(critics), version=version, info=info, shapes=shapes)
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
