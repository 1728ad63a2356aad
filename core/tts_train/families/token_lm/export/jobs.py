"""The exports: ``hf`` and ``merged``, ``peft``, ``gguf``, and ``hf`` of a model with a class and a codec of its own."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tts_train.contract.jobs import ExportJob
from tts_train.contract.reports import ExportReport
from tts_train.errors import MissingExtraError, TTSTrainError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.network.network import TokenNetwork
    from tts_train.families.token_lm.speaking.sources import TrainedRun


@dataclass(kw_only=True)
class HfExport(ExportJob):
    """Write a folder for transformers and vLLM: weights, tokenizer, generation settings and a model card.

    A run with adapters is merged first, so that its ``hf`` is the same model as its ``merged``.
    """

    token_lm: ClassVar[TokenLM]
    """What kind of model it is; a backend's subclass says it."""

    format_name: ClassVar[str] = "hf"
    """What the folder says that it is."""

    dtype: Literal["bf16", "fp32"] = "bf16"
    """Type of the weights; served models are bf16."""
    tokenizer: str | None = None
    """Tokenizer: a folder, a hub name or ``tiny``; none takes the one that the run's data was made with."""
    push_to: str | None = None
    """Hub repository (``name/voice``) to upload to afterwards, private if it is new; nothing is uploaded without it."""

    def run(self) -> ExportReport:
        """Write, load back, compare, and then give the folder its name."""
        from tts_train.families.token_lm.export.model_folder import export_model_folder

        return export_model_folder(
            self.token_lm,
            self.source,
            self.out,
            name=self.format_name,
            dtype=self.dtype,
            tokenizer=self.tokenizer,
            push_to=self.push_to,
        )


@dataclass(kw_only=True)
class PeftExport(ExportJob):
    """Write the adapter alone, for ``peft.PeftModel.from_pretrained(base, folder)``."""

    token_lm: ClassVar[TokenLM]
    """What kind of model it is; a backend's subclass says it."""

    tokenizer: str | None = None
    """Tokenizer: a folder, a hub name or ``tiny``; none takes the one that the run's data was made with."""
    push_to: str | None = None
    """Hub repository (``name/voice``) to upload to afterwards, private if it is new; nothing is uploaded without it."""

    def run(self) -> ExportReport:
        """Write, load back on the base, compare, and then give the folder its name."""
        from tts_train.families.token_lm.export.adapter_folder import export_adapter_folder

        return export_adapter_folder(
            self.token_lm, self.source, self.out, tokenizer=self.tokenizer, push_to=self.push_to
        )


@dataclass(kw_only=True)
class MergedExport(HfExport):
    """Write base and adapter as one model, in the layout of ``hf``.

    The adapter is added in float32 to the base as it was before any quantisation, and rounded once.
    """

    format_name = "merged"


@dataclass(kw_only=True)
class GgufExport(ExportJob):
    """Write a file for llama.cpp; ``--out`` is its name, or a folder for it.

    A run with adapters is merged first. Pass token ids to llama.cpp rather than a string.
    """

    token_lm: ClassVar[TokenLM]
    """What kind of model it is; a backend's subclass says it."""

    dtype: Literal["f16", "bf16", "q8_0", "q4_k"] = "bf16"
    """Type of the matrices; ``q4_k`` is the mixture of 4 and 6 bits that llama.cpp calls Q4_K_M."""
    tokenizer: str | None = None
    """Tokenizer: a folder, a hub name or ``tiny``; none takes the one that the run's data was made with."""

    def run(self) -> ExportReport:
        """Write, read every tensor back, compare, and then give the file its name."""
        try:
            import gguf  # noqa: F401 - asked for before anything is loaded
        except ImportError as error:
            raise MissingExtraError("Export to GGUF", "gguf") from error
        from tts_train.families.token_lm.export.gguf_file import export_gguf

        return export_gguf(self.token_lm, self.source, self.out, dtype=self.dtype, tokenizer=self.tokenizer)


@dataclass(kw_only=True)
class FolderExport(HfExport):
    """Write a folder in a form of the released model's own; adapters are merged first."""

    codec: str | None = None
    """Codec that goes into the folder: a hub name or a local folder; none takes the one that made the run's data."""

    @abstractmethod
    def write(
        self, folder: Path, run: TrainedRun, network: TokenNetwork, words: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Write everything but the card into an empty folder, read it back, and return what was compared.

        Args:
            folder: Where to.
            run: What is exported.
            network: Its network without adapters, in the type of the export.
            words: Its tokenizer.

        Raises:
            ConfigError: if the run cannot be exported in this form.
            TTSTrainError: if what was written does not read back as what was trained.
        """

    def opened(self, folder: Path) -> tuple[Any, PreTrainedTokenizerBase]:
        """Return the network and the tokenizer of a folder that was written, in float32, ready to speak."""
        import torch

        from tts_train.families.token_lm.speaking.sources import open_model

        model = open_model(self.token_lm, folder, device=torch.device("cpu"), dtype=torch.float32)
        return model.lm, model.tokenizer

    def read_back(self, folder: Path, lm: Any, words: PreTrainedTokenizerBase) -> int:  # noqa: ANN401
        """Say a few frames without chance with a folder and with the network that was written, and count them.

        Raises:
            TTSTrainError: if they say other codes.
        """
        said, written = self._likeliest(lm.float(), words), self._likeliest(*self.opened(folder))
        if said != written:
            raise TTSTrainError(
                "Reading the export back: it says other codes than the network that was written. This is a fault of "
                "the exporter or of a library's version; please report it with the output of 'tts-train doctor'."
            )
        return len(said)

    def _likeliest(self, lm: Any, words: PreTrainedTokenizerBase) -> list[tuple[int, ...]]:  # noqa: ANN401
        from tts_train.families.token_lm.export.check import greedy_codes

        return list(zip(*(level.tolist() for level in greedy_codes(self.token_lm, lm, words).codes), strict=True))

    def codec_of(self, run: TrainedRun) -> str:
        """Return the codec that goes into the folder."""
        return self.codec or run.codec or self.token_lm.codec

    def run(self) -> ExportReport:
        """Write, load back, compare weights and what is spoken, and then give the folder its name."""
        from tts_train.disk.place import check_place, files_in, push, staged_folder
        from tts_train.disk.provenance import Provenance
        from tts_train.families.token_lm.export.card import model_card
        from tts_train.families.token_lm.speaking.sources import open_run

        check_place(self.out)
        run = open_run(self.token_lm, self.source)
        words = run.tokenizer(self.tokenizer)
        # In memory before anything is written: a wrong merge leaves no folder behind.
        network, measured = self._whole(run)
        with staged_folder(self.out) as folder:
            measured |= self.write(folder, run, network, words)
            card = model_card(run, title=self.push_to or self.out.resolve().name, kind="model", dtype=self.dtype)
            (folder / "README.md").write_text(card, encoding="utf-8")
            stage, step = run.checkpoint.card.stage, run.checkpoint.step
            Provenance(self.token_lm.backend, stage, self.format_name, step, run.facts).write(folder)
        return ExportReport(
            format=self.format_name,
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


@dataclass(kw_only=True)
class ReleaseExport(FolderExport):
    """Write a folder that the released model's own class loads; adapters are merged first."""

    @abstractmethod
    def released(self, lm: Any, codec: str) -> PreTrainedModel:  # noqa: ANN401 - a model of transformers
        """Return the released class's model with the weights of ``lm``, and this codec."""

    def write(
        self, folder: Path, run: TrainedRun, network: TokenNetwork, words: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Write model and tokenizer, and compare weights and codes with those of the released class."""
        from tts_train.families.token_lm.export.model_folder import write_words

        model = self.released(network.lm, self.codec_of(run))
        model.save_pretrained(folder, max_shard_size="5GB")
        write_words(self.token_lm, words, folder)
        return self._read_back(type(model), folder, network, words)

    def _read_back(
        self, kind: type[PreTrainedModel], folder: Path, network: TokenNetwork, words: PreTrainedTokenizerBase
    ) -> dict[str, Any]:
        """Load the folder as anyone would, and compare weights and the codes of a greedy decoding."""
        import torch

        from tts_train.families.token_lm.export.check import greedy_codes, require_equal_weights, require_same_codes

        own = network.float().lm
        # Its values are read from the folder; only the class that holds them is the network's own.
        config = type(own.config).from_pretrained(folder)
        found: Any = kind.from_pretrained(folder, config=config, dtype=torch.float32).eval()
        # Without the codec, which the network in training does not have.
        written = {name: tensor for name, tensor in found.state_dict().items() if name in own.state_dict()}
        tensors = require_equal_weights(own.state_dict(), written, "Reading the export back")
        return {
            "tensors": tensors,
            **require_same_codes(self.token_lm, greedy_codes(self.token_lm, own, words), found, words),
        }


def losses_of(network: TokenNetwork, row: Ids) -> Tensor:
    """Return the loss of each target of a row in float32, those of the depth network last."""
    import torch

    from tts_train.families.token_lm.data.batch import Document
    from tts_train.families.token_lm.network.build import joined
    from tts_train.families.token_lm.network.start import ATTENTION, use_attention

    before = network.config._attn_implementation
    # A depth network's own forward would begin with its first input once more; the layers alone are called with this.
    use_attention(network.lm, ATTENTION)
    with torch.inference_mode():
        # Losses and not logits: the released class gives those of a depth network for labels alone.
        parts = network(joined([Document("", row)], network.layout, packed=False)).parts
    use_attention(network.lm, before)
    return torch.cat([part.losses for part in parts])
