"""What comes after training: an export that is read back, and sound. Torch is imported when a job runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tts_train.contract import DataError, ExportJob, ExportReport, SynthJob, SynthReport

if TYPE_CHECKING:
    from tts_train_toy.network import ToyNetwork


@dataclass(kw_only=True)
class TonesExport(ExportJob):
    """Write the spectrum of each letter as a table of safetensors."""

    def run(self) -> ExportReport:
        """Write, read back, compare."""
        import torch
        from safetensors.torch import load_file, save_file

        from tts_train.contract import open_checkpoint

        checkpoint = open_checkpoint(self.source)
        network = _network(checkpoint.card.config["model"], checkpoint.weights())
        with torch.no_grad():
            table = network(torch.arange(128)[None])[0].contiguous()
        with self.folder(checkpoint.provenance("tones")) as folder:
            path = folder / "tones.safetensors"
            save_file({"tones": table}, path)
            if not torch.equal(load_file(path)["tones"], table):
                raise DataError(f"{path} does not read back as it was written. Is the disk sound?")
        return ExportReport(format="tones", path=str(self.out), files=[path.name], verified=True)


@dataclass(kw_only=True)
class ToySynth(SynthJob):
    """Hum a text."""

    def run(self) -> SynthReport:
        """Write a wave file."""
        from tts_train.contract import open_checkpoint
        from tts_train_toy.network import SAMPLE_RATE

        checkpoint = open_checkpoint(self.source)
        wave = _network(checkpoint.card.config["model"], checkpoint.weights()).hum(self.text)
        self.write(wave, sample_rate=SAMPLE_RATE)
        return SynthReport(path=str(self.out), seconds=len(wave) / SAMPLE_RATE)


def _network(config: Mapping[str, Any], weights: Mapping[str, Any]) -> ToyNetwork:
    from tts_train_toy.network import ToyNetwork

    network = ToyNetwork(config["bins"], config["width"]).eval()
    network.load_state_dict({key.removeprefix("network."): value for key, value in weights.items()})
    return network
