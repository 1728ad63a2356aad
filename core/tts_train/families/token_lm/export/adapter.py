"""Exports of adapter runs: ``peft``, the adapter alone, and ``merged``, base and adapter as one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tts_train.contract.jobs import ExportJob
from tts_train.contract.reports import ExportReport
from tts_train.families.token_lm.export.hf import HfExport

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM


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
