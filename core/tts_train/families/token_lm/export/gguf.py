"""Export ``gguf``: one file for llama.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from tts_train.contract.jobs import ExportJob
from tts_train.contract.reports import ExportReport
from tts_train.errors import MissingExtraError

if TYPE_CHECKING:
    from tts_train.families.token_lm.model import TokenLM


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
