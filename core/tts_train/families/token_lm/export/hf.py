"""Export ``hf``: a folder that transformers and vLLM load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tts_train.contract.jobs import ExportJob
from tts_train.contract.reports import ExportReport

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM


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
