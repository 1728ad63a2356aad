"""Qwen3-TTS's networks with the names of the released weights: talker, code predictor, speaker encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import PreTrainedModel, Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer, Qwen3RMSNorm, Qwen3RotaryEmbedding

from tts_train.contract import ConfigError
from tts_train_qwen3_tts.layout import PAD, Qwen3TTSLayout, layout_of
from tts_train_qwen3_tts.networks.config import Qwen3TTSConfig
from tts_train_qwen3_tts.networks.speaker import SpeakerConfig, SpeakerEncoder

NONE = -1
"""Stands for an empty channel."""


class Qwen3Stack(nn.Module):
    """The layers of a Qwen3, with norm and rotation, over embeddings that are made elsewhere."""

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList([Qwen3DecoderLayer(config, number) for number in range(config.num_hidden_layers)])
        self.norm = Qwen3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = Qwen3RotaryEmbedding(config=config)


class TalkerStack(Qwen3Stack):
    """The talker's layers and its two tables: text rows, and codes of the first codebook with the control rows."""

    def __init__(self, config: Qwen3Config, section: Mapping[str, Any]) -> None:
        super().__init__(config)
        self.text_embedding = nn.Embedding(section["text_vocab_size"], section["text_hidden_size"])
        self.codec_embedding = nn.Embedding(config.vocab_size, config.hidden_size)


class PredictorStack(Qwen3Stack):
    """The code predictor's layers and a table for each codebook but the first, as wide as the talker."""

    def __init__(self, config: Qwen3Config, books: int, width: int) -> None:
        super().__init__(config)
        tables = [nn.Embedding(config.vocab_size, width) for _ in range(books - 1)]
        self.codec_embedding = nn.ModuleList(tables)


class TextProjection(nn.Module):
    """Two linear layers that bring text rows to the talker's width."""

    def __init__(self, text: int, width: int) -> None:
        super().__init__()
        self.linear_fc1 = nn.Linear(text, text)
        self.linear_fc2 = nn.Linear(text, width)

    def forward(self, states: Tensor) -> Tensor:
        """Return (..., H) of (..., text)."""
        projected: Tensor = self.linear_fc2(nn.functional.silu(self.linear_fc1(states)))
        return projected


class CodePredictor(nn.Module):
    """The small network that says codes 1 to K - 1 of a frame."""

    def __init__(self, config: Qwen3Config, books: int, width: int) -> None:
        super().__init__()
        self.model = PredictorStack(config, books, width)
        heads = [nn.Linear(config.hidden_size, config.vocab_size, bias=False) for _ in range(books - 1)]
        self.lm_head = nn.ModuleList(heads)
        # No tensor where the widths agree, as in the 0.6B.
        same = width == config.hidden_size
        self.small_to_mtp_projection = nn.Identity() if same else nn.Linear(width, config.hidden_size)


class Talker(nn.Module):
    """The language model over frames, with its tables, its output matrix and the code predictor."""

    def __init__(self, config: Qwen3TTSConfig) -> None:
        super().__init__()
        section, stack = config.talker, config.stack(config.talker)
        self.model = TalkerStack(stack, section)
        self.text_projection = TextProjection(section["text_hidden_size"], stack.hidden_size)
        self.codec_head = nn.Linear(stack.hidden_size, stack.vocab_size, bias=False)
        books = section["num_code_groups"]
        self.code_predictor = CodePredictor(config.stack(config.predictor), books, stack.hidden_size)


class Qwen3TTSLM(PreTrainedModel):  # type: ignore[misc]
    """What the family calls a language model of frames, under the names of the released weights.

    ``voices`` (N, H) are vectors of the speaker encoder by which speakers of the training data are named; they are not
    trained. ``own_voices`` (rows, H) are those of single utterances, counted behind them; a checkpoint has none.

    Raises:
        ConfigError: if the configuration lacks what the networks are built from.
    """

    voices: Tensor
    own_voices: Tensor | None
    config_class = Qwen3TTSConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_attention_backend = True
    _no_split_modules = ("Qwen3DecoderLayer",)
    _keys_to_ignore_on_load_missing = (r"^voices$",)
    _keys_to_ignore_on_load_unexpected = (r"^speaker_encoder\.",)

    def __init__(self, config: Qwen3TTSConfig) -> None:
        config.check()
        super().__init__(config)
        self.talker = Talker(config)
        if config.speaker_encoder_config is not None and config.kind == "base":
            self.speaker_encoder = SpeakerEncoder(SpeakerConfig.read(config.speaker_encoder_config))
        # At least one row, so that a lookup that is not used finds one.
        rows = max(len(config.voices), 1)
        self.register_buffer("voices", torch.zeros(rows, config.hidden_size))
        self.register_buffer("own_voices", None, persistent=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # A released file has none, and what is in no file is left as the memory was.
        if module is self:
            self.voices.zero_()

    @cached_property
    def layout(self) -> Qwen3TTSLayout:
        """The ids of a model of this size."""
        config: Any = self.config
        tts = config.tts_pad_token_id, config.tts_bos_token_id, config.tts_eos_token_id
        return layout_of(
            text_rows=config.talker["text_vocab_size"],
            codes=config.predictor["vocab_size"],
            rows=config.vocab_size,
            books=config.talker["num_code_groups"],
            tts=tts,
            im_start=config.im_start_token_id,
            im_end=config.im_end_token_id,
        )

    @property
    def model(self) -> TalkerStack:
        """The talker's layers."""
        return self.talker.model

    @property
    def lm_head(self) -> nn.Linear:
        """The first codebook's output matrix."""
        return self.talker.codec_head

    @property
    def depth(self) -> PredictorStack:
        """The code predictor's layers."""
        return self.talker.code_predictor.model

    def tied_names(self) -> Sequence[str]:
        """None is tied."""
        return ()

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the text table."""
        return self.talker.model.text_embedding

    def get_output_embeddings(self) -> nn.Linear:
        """Return the first codebook's output matrix."""
        return self.lm_head

    def set_attn_implementation(self, attn_implementation: str | Mapping[str, str], **given: Any) -> None:  # noqa: ANN401
        """Let both stacks attend by another implementation, given by name or as the value of ``""``."""
        del given
        name = attn_implementation if isinstance(attn_implementation, str) else attn_implementation[""]
        for config in (self.config, self.model.config, self.depth.config):
            config._attn_implementation = name

    def take_voices(self, names: Sequence[str], vectors: Tensor, own: Tensor | None = None) -> None:
        """Know speakers by their vectors (N, H) of the speaker encoder, and utterances by their own (rows, H).

        Raises:
            ConfigError: if they are of a model of another width.
        """
        if vectors.shape[1] != self.config.hidden_size:
            raise ConfigError(
                f"The prepared set has voices of {vectors.shape[1]} numbers, and this model takes "
                f"{self.config.hidden_size}. Prepare it with --speaker_encoder of the model that is trained."
            )
        self.config.voices = list(names)
        self.voices = vectors.to(self.voices)
        self.own_voices = None if own is None else own.to(self.voices)

    # --- what stands at a position -----------------------------------------------------------------------------------

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Return the embeddings (..., H) of positions that are no frames, by their ids (...)."""
        layout = self.layout
        is_text, is_spoken = ids < layout.rows_base, (ids >= layout.spoken_base) & (ids < layout.rows_base)
        text = torch.where(is_text, ids - is_spoken * layout.spoken_base, layout.tts_pad)
        pad = torch.where(is_spoken, layout.row(PAD), NONE)
        return self.embed_pairs(text, torch.where(is_text, pad, ids - layout.rows_base))

    def embed_pairs(self, text: Tensor, codec: Tensor) -> Tensor:
        """Return the embeddings (..., H) of both channels added up.

        Args:
            text: Text rows (...), -1 for none.
            codec: Rows of the codec's table (...), from its end on vectors; -1 for none.
        """
        table = self.model.codec_embedding.weight
        rows = table.shape[0]
        words = self._text(text.clamp(min=0)) * (text != NONE)[..., None]
        items = embedding(codec.clamp(0, rows - 1), table)
        said = (
            torch.where((codec < rows)[..., None], items, self._voices(codec - rows).to(items))
            * (codec != NONE)[..., None]
        )
        summed: Tensor = words + said
        return summed

    def _voices(self, places: Tensor) -> Tensor:
        """Return the vectors (..., H) at places (...); some vector at places below 0."""
        count = len(self.voices)
        shared = embedding(places.clamp(0, count - 1), self.voices)
        if self.own_voices is None:
            return shared
        own = embedding((places - count).clamp(min=0), self.own_voices)
        return torch.where((places < count)[..., None], shared, own)

    def embed_frames(self, codes: Tensor) -> Tensor:
        """Return the sums (..., H) of the embeddings of frames' codes (..., K) and of the text's pad."""
        # Projected once, as it is the same under every frame.
        pad = self._text(torch.full((1,), self.layout.tts_pad, device=codes.device))
        return self.sum_of_codes(codes) + pad

    def sum_of_codes(self, codes: Tensor) -> Tensor:
        """Return the sums (..., H) of the embeddings of frames' codes (..., K)."""
        # Book by book: looked up together, sixteen rows a frame would have to be held at once.
        total: Tensor = self.model.codec_embedding(codes[..., 0])
        for book, table in enumerate(self.depth.codec_embedding, start=1):
            total = total + table(codes[..., book])
        return total

    def depth_state(self, hidden: Tensor) -> Tensor:
        """Return the code predictor's first input (..., D)."""
        state: Tensor = self.talker.code_predictor.small_to_mtp_projection(hidden)
        return state

    def depth_codes(self, codes: Tensor, first: int = 0) -> Tensor:
        """Return the code predictor's inputs (..., n, D) for codes (..., n) of the codebooks from ``first`` on."""
        tables = [self.model.codec_embedding, *self.depth.codec_embedding][first : first + codes.shape[-1]]
        read = torch.stack([table(codes[..., number]) for number, table in enumerate(tables)], dim=-2)
        return self.depth_state(read)

    def depth_weight(self) -> Tensor:
        """Return the output matrices of codebooks 1 to K - 1, one below the other ((K - 1) * V, D)."""
        heads: Any = self.talker.code_predictor.lm_head
        return torch.cat([head.weight for head in heads])

    def _text(self, rows: Tensor) -> Tensor:
        projected: Tensor = self.talker.text_projection(self.model.text_embedding(rows))
        return projected
