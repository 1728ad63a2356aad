"""CSM's network as the family asks for it: transformers' own, without the codec that it carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import CsmConfig, CsmForConditionalGeneration


@strict
class CsmLMConfig(CsmConfig):  # type: ignore[misc]
    """``CsmConfig``; ``TokenLM.base_values`` and the layout say what transformers would check here."""

    def validate_token_ids(self) -> None:
        """Do nothing: transformers looks for the text's control ids among the codes, and warns of each."""


class CsmLM(CsmForConditionalGeneration):  # type: ignore[misc]
    """``CsmForConditionalGeneration`` with the same names of weights, but those of the codec."""

    config_class = CsmLMConfig
    _keys_to_ignore_on_load_unexpected = (r"codec_model\.",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.codec_model  # neither trained nor kept with what is

    @property
    def model(self) -> Any:
        """The backbone."""
        return self.backbone_model

    @property
    def depth(self) -> Any:
        """The depth network's layers."""
        return self.depth_decoder.model

    def get_input_embeddings(self) -> Any:
        """Return the text's, which is what --model.freeze_embedding and --model.lora.train_embedding are about."""
        return self.embed_text_tokens

    def tied_names(self) -> Sequence[str]:
        """The depth network's table of codes, where it is the backbone's."""
        return ("depth_decoder.model.embed_tokens.weight",) if self.config.tie_codebooks_embeddings else ()

    def embed_frames(self, codes: Tensor) -> Tensor:
        """Return the sums (..., H) of the embeddings of frames' codes (..., K)."""
        table = self.backbone_model.embed_tokens
        embeds: Tensor = table.embed_audio_tokens(codes + table.audio_tokens_offsets).sum(dim=-2)
        return embeds

    def depth_state(self, hidden: Tensor) -> Tensor:
        """Return the depth network's first input (..., D)."""
        state: Tensor = self.depth.inputs_embeds_projector(hidden)
        return state

    def depth_codes(self, codes: Tensor, first: int = 0) -> Tensor:
        """Return the depth network's inputs (..., n, D) for codes (..., n) of the codebooks from ``first`` on."""
        books = self.backbone_model.embed_tokens.audio_tokens_offsets[first : first + codes.shape[-1]]
        return self.depth_state(self.depth.embed_tokens(codes + books))

    def depth_weight(self) -> Tensor:
        """Return the output matrices of codebooks 1 to K - 1, one below the other ((K - 1) * V, D)."""
        weight: Tensor = self.depth_decoder.codebooks_head.weight
        return weight.transpose(1, 2).flatten(0, 1)
