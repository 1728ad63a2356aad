"""Export ``hf`` of a model whose released form has a class and a codec of its own: what that class loads."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts_train.contract.reports import ExportReport
from tts_train.families.token_lm.export.hf import HfExport

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.network.network import TokenNetwork
    from tts_train.families.token_lm.speaking.sources import TrainedRun

_FRAMES = 3
_GREEDY = {"do_sample": False, "temperature": 1.0}


@dataclass(kw_only=True)
class ReleaseExport(HfExport):
    """Write a folder that the released model's own class loads; adapters are merged first."""

    codec: str | None = None
    """Codec that goes into the folder: a hub name or a local folder; none takes the one that made the run's data."""

    @abstractmethod
    def released(self, lm: Any, codec: str) -> PreTrainedModel:  # noqa: ANN401 - a model of transformers
        """Return the released class's model with the weights of ``lm``, and this codec."""

    @abstractmethod
    def write_words(self, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        """Write the tokenizer, and what else makes a prompt."""

    def run(self) -> ExportReport:
        """Write, load back, compare weights and what is spoken, and then give the folder its name."""
        from tts_train.disk.place import check_place, files_in, push, staged_folder
        from tts_train.disk.provenance import Provenance
        from tts_train.families.token_lm.export.card import model_card
        from tts_train.families.token_lm.speaking.sources import open_run

        check_place(self.out)
        run = open_run(self.token_lm, self.source)
        words = run.tokenizer(self.tokenizer)
        network, measured = self._whole(run)
        with staged_folder(self.out) as folder:
            model = self.released(network.lm, self.codec or run.codec or self.token_lm.codec)
            model.save_pretrained(folder, max_shard_size="5GB")
            self.write_words(words, folder)
            measured |= self._read_back(type(model), folder, network, words)
            card = model_card(run, title=self.push_to or self.out.resolve().name, kind="model", dtype=self.dtype)
            (folder / "README.md").write_text(card, encoding="utf-8")
            Provenance(self.token_lm.backend, run.checkpoint.card.stage, "hf", run.checkpoint.step, run.facts).write(
                folder
            )
        return ExportReport(
            format="hf",
            path=str(self.out),
            files=files_in(self.out),
            verified=True,
            dtype=self.dtype,
            step=run.checkpoint.step,
            measured=measured,
            more=push(self.out, self.push_to),
        )

    def _whole(self, run: TrainedRun) -> tuple[TokenNetwork, dict[str, Any]]:
        """Return the network without adapters in the export's type, and what merging them changed."""
        import torch

        from tts_train.families.token_lm.export.check import probe_row, require_equal_losses
        from tts_train.families.token_lm.export.model_folder import DTYPES
        from tts_train.families.token_lm.network.adapters import merge

        network, measured = run.network(torch.float32), dict[str, Any]()
        if run.adapted:
            row = probe_row(self.token_lm, run.tokenizer(self.tokenizer))
            before = losses_of(network, row)
            merge(network)
            measured["merge"] = require_equal_losses(before, losses_of(network, row), "Merging the adapter")
        return network.to(DTYPES[self.dtype]).requires_grad_(False), measured

    def _read_back(
        self, kind: type[PreTrainedModel], folder: Path, network: TokenNetwork, words: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Load the folder as anyone would, and compare weights and the codes of a greedy decoding."""
        import torch

        from tts_train.errors import TTSTrainError
        from tts_train.families.token_lm.decoding.generate import generate
        from tts_train.families.token_lm.decoding.options import Sampling
        from tts_train.families.token_lm.export.check import require_equal_weights

        own = network.float().lm
        # Its values are read from the folder; only the class that holds them is the network's own.
        config = type(own.config).from_pretrained(folder)
        found: Any = kind.from_pretrained(folder, config=config, dtype=torch.float32).eval()
        written = {name: tensor for name, tensor in found.state_dict().items() if name in own.state_dict()}
        tensors = require_equal_weights(own.state_dict(), written, "Reading the export back")
        form, layout = self.token_lm.prompt, self.token_lm.layout
        prompt = form.inference_prompt(form.encode_text(words, "Hello."))
        greedy = Sampling(temperature=0, repetition_penalty=1)
        (said,) = generate(layout, own, [prompt], seeds=[0], max_new_tokens=_FRAMES * layout.slots, sampling=greedy)
        heard = self.greedy(found, prompt, len(said.content.codes[0]))
        if any((one != other).any() for one, other in zip(said.content.codes, heard, strict=True)):
            raise TTSTrainError(
                "Reading the export back: its own class says other codes than the network that was written. This is a "
                "fault of the exporter or of a library's version; please report it with the output of 'tts-train "
                "doctor'."
            )
        return {"tensors": tensors, "greedy_frames": said.content.frames}

    def greedy(self, model: Any, prompt: Ids, frames: int) -> list[Ids]:  # noqa: ANN401 - a model of transformers
        """Return the codes of each codebook that the released class gives a prompt without chance."""
        import torch

        options: dict[str, Any] = {"max_new_tokens": max(frames, 1)}
        # transformers warns of a temperature that greedy decoding has no use for, unless it is 1.
        options |= {f"{of}{name}": value for of in ("", "depth_decoder_") for name, value in _GREEDY.items()}
        codes = model.generate(input_ids=torch.from_numpy(prompt)[None], **options)[0, :frames]
        return list(codes.T.numpy())


def losses_of(network: TokenNetwork, row: Ids) -> Tensor:
    """Return the loss of each target of a row in float32, those of the depth network last."""
    import torch

    from tts_train.families.token_lm.data.batch import Document
    from tts_train.families.token_lm.network.build import joined

    with torch.inference_mode():
        parts = network(joined([Document("", row)], network.layout, packed=False)).parts
    return torch.cat([part.losses for part in parts])
