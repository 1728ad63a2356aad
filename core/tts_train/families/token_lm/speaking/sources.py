"""What can be exported or spoken with: runs, exports, adapters, and upstream models."""

from __future__ import annotations

import pkgutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tts_train.datasets.store.shards import prepared_facts
from tts_train.disk.provenance import export_card
from tts_train.errors import ConfigError
from tts_train.families.token_lm.network.adapters import merge
from tts_train.families.token_lm.network.network import TokenNetwork
from tts_train.families.token_lm.network.restore import described, load_trained, open_own
from tts_train.families.token_lm.network.start import TINY, TinyOptions, load_base, use_attention
from tts_train.run.checkpoint import Checkpoint, is_run

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

    from tts_train.families.token_lm.model import TokenLM

CODEC, SPEAKERS, LANGUAGES = "codec", "speakers", "languages"
"""Facts that an export remembers."""


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A checkpoint of a run, with what its configuration says."""

    token_lm: TokenLM
    checkpoint: Checkpoint

    @property
    def model(self) -> Mapping[str, Any]:
        """The run's ``--model.*`` values."""
        return self.checkpoint.card.options("model", "init_from", names=(TINY,))

    @property
    def base(self) -> str:
        """What ``--model.init_from`` named."""
        return str(self.model.get("init_from", self.token_lm.base))

    @property
    def method(self) -> str:
        """``full``, ``lora``, ``qlora`` or ``lora-8bit``."""
        return str(self.model.get("method", "full"))

    @property
    def adapted(self) -> bool:
        """Whether the checkpoint holds adapters over a frozen base."""
        return self.method != "full"

    @property
    def softmax(self) -> str:
        """Entries that audio positions were trained against: ``full``, ``audio`` or ``slot``."""
        return str((self.model.get("head") or {}).get("softmax", "full"))

    @property
    def data(self) -> Mapping[str, Any]:
        """What is known of the prepared set that it was trained on: its settings and speakers."""
        card = self.checkpoint.card
        # Cards of old say nothing themselves.
        known = card.prepared or prepared_facts(card.options("data", "path").get("path") or "")
        return known or {"settings": {}}

    @property
    def codec(self) -> str | None:
        """The codec that made the data's ids, if it is known."""
        codec = self.data.get("settings", {}).get("codec")
        return str(codec) if codec else None

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names that stand before the data's texts; none if it has no names there, or is not here."""
        data = self.data
        return tuple(data["speakers"]) if data.get("settings", {}).get("voice_prefix") else ()

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that the data's rows name; none if they name none."""
        return tuple(self.data.get(LANGUAGES, ()))

    @property
    def facts(self) -> dict[str, Any]:
        """What an export remembers of the data: its codec, speakers and languages, as far as they are known."""
        known: dict[str, Any] = {CODEC: self.codec, SPEAKERS: list(self.speakers), LANGUAGES: list(self.languages)}
        if self.adapted and self.base == TINY:
            known[TINY] = dict(self.model.get("tiny") or {})  # the adapter is of no use without the base's sizes
        return {name: value for name, value in known.items() if value}

    def tokenizer(self, source: str | None = None) -> PreTrainedTokenizerBase:
        """Load the tokenizer that ``source`` names, else the one the data was made with, else the base's."""
        source = source or self.data.get("settings", {}).get("tokenizer")
        if source is None and is_run(Path(self.base)):
            return open_run(self.token_lm, Path(self.base)).tokenizer()
        return self.token_lm.load_tokenizer(source or self.base)

    def network(self, dtype: torch.dtype = torch.float32) -> TokenNetwork:
        """Rebuild the trained network on the CPU; adapters are in place and not merged."""
        description = described(self.token_lm, self.checkpoint)
        network = load_trained(
            self.token_lm, self.model, self.checkpoint.weights(), description=description, dtype=dtype
        )
        use_attention(network.lm, "sdpa")
        return network

    def base_network(self) -> LlamaForCausalLM:
        """Load the base that adapters belong to as anyone else would: in its own number of rows, in float32.

        Raises:
            ConfigError: if nobody else can, because it is a run.
        """
        from transformers import AutoModelForCausalLM

        kind: Any = AutoModelForCausalLM
        if self.token_lm.released_class is not None:
            kind = pkgutil.resolve_name(self.token_lm.released_class)
        if is_run(Path(self.base)):
            raise ConfigError(
                f"The base of this adapter is a run, {self.base}, which peft cannot load. Use --format hf."
            )
        if self.base == TINY:
            tiny = load_base(self.token_lm, TINY, tiny=TinyOptions(**dict(self.model.get("tiny") or {})))
            use_attention(tiny, "sdpa")
            return tiny
        own = self.token_lm.network_class
        # The class of its configuration is the network's own, as transformers' may warn of what is right.
        config = None if own is None else own.config_class.from_pretrained(self.base)
        loaded: LlamaForCausalLM = kind.from_pretrained(self.base, config=config, dtype=torch.float32)
        return loaded


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model ready to speak: no adapters left, in evaluation mode."""

    lm: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase
    softmax: str = "full"
    """``audio`` or ``slot`` where it was trained against those entries only: generation needs holding to them."""
    codec: str | None = None
    """The codec of the training data, as far as it is known."""
    speakers: tuple[str, ...] = ()
    """Names that stand before the texts of the training data, as far as they are known."""
    languages: tuple[str, ...] = ()
    """Languages of the training data, as far as they are known."""


def open_run(token_lm: TokenLM, path: Path) -> TrainedRun:
    """Open a run directory or a checkpoint for export.

    Raises:
        DataError: if there is none, it is damaged, or it belongs to another backend.
    """
    return TrainedRun(token_lm=token_lm, checkpoint=open_own(token_lm, path))


def open_model(
    token_lm: TokenLM, source: Path, *, device: torch.device, dtype: torch.dtype, tokenizer: str | None = None
) -> OpenedModel:
    """Open anything that can speak: a run, a checkpoint, an hf, merged or peft folder, or a hub name.

    Args:
        token_lm: What kind of model it is.
        source: A path, or a hub name.
        device: Where it will compute.
        dtype: Type of its weights. Adapters are added in float32 and rounded to it once.
        tokenizer: Folder or hub name of the tokenizer, where it is not beside the model.

    Raises:
        ConfigError: if it cannot be loaded; the message says what can.
        DataError: if a checkpoint is damaged.
    """
    if source.suffix == ".gguf":
        raise ConfigError(f"{source} is for llama.cpp. To speak here, give the run, or export it with --format hf.")
    if is_run(source):
        model = _from_run(open_run(token_lm, source), dtype, tokenizer)
    elif (source / "adapter_config.json").is_file():
        model = _from_adapter(token_lm, source, dtype, tokenizer)
    else:
        model = _from_model(token_lm, source, dtype, tokenizer)
    model.lm.requires_grad_(False).eval().to(device)
    return model


def _from_run(run: TrainedRun, dtype: torch.dtype, tokenizer: str | None) -> OpenedModel:
    words = run.tokenizer(tokenizer)
    network = run.network(dtype)
    if run.adapted:
        merge(network)
    known: dict[str, Any] = {CODEC: run.codec, SPEAKERS: run.speakers, LANGUAGES: run.languages}
    return OpenedModel(lm=network.lm, tokenizer=words, softmax=run.softmax, **known)


def _from_adapter(token_lm: TokenLM, folder: Path, dtype: torch.dtype, tokenizer: str | None) -> OpenedModel:
    from peft import PeftConfig, PeftModel

    base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    words = token_lm.load_tokenizer(tokenizer or str(folder))
    card = export_card(folder)
    sizes: Any = card.facts.get(TINY) or {} if card else {}
    lm = load_base(token_lm, base, dtype=dtype, tiny=TinyOptions(**sizes))
    use_attention(lm, "sdpa")
    # Adapters stay float32 over a half base until they are merged.
    adapted = PeftModel.from_pretrained(lm, str(folder), autocast_adapter_dtype=True)
    with warnings.catch_warnings():
        # PEFT takes tie_word_embeddings for what it is not where that ties the embeddings of two networks, as in CSM.
        warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied")
        merged = adapted.merge_and_unload(safe_merge=True)
    return OpenedModel(lm=merged, tokenizer=words, **_remembered(folder))


def _from_model(token_lm: TokenLM, source: Path, dtype: torch.dtype, tokenizer: str | None) -> OpenedModel:
    name = source.as_posix()  # a hub name has no backslash under Windows either
    words = token_lm.load_tokenizer(tokenizer or name)
    lm = load_base(token_lm, name, dtype=dtype)
    use_attention(lm, "sdpa")
    return OpenedModel(
        lm=lm, tokenizer=words, softmax=getattr(lm.config, token_lm.softmax_key, "full"), **_remembered(source)
    )


def codec_of(token_lm: TokenLM, source: Path) -> str | None:
    """Return the codec of a run's or an export's training data, as far as it is known."""
    return open_run(token_lm, source).codec if is_run(source) else _remembered(source).get(CODEC)


def known_of(token_lm: TokenLM, source: Path) -> dict[str, Any]:
    """Return what is known of the data that a source was trained on, as ``TokenData.remember`` says it.

    A run tells all of it. An export tells codec, speakers and languages, a released model of others nothing; both have
    their tokenizer beside them. Where nothing says which codec it is, it is that of the released models.
    """
    if is_run(source):
        known = dict(open_run(token_lm, source).data)
        return {**known, "settings": {CODEC: token_lm.codec, **known["settings"]}}
    told = _remembered(source)
    speakers, languages = list(told.get(SPEAKERS, ())), list(told.get(LANGUAGES, ()))
    settings = {
        CODEC: told.get(CODEC) or token_lm.codec,
        "tokenizer": source.as_posix(),
        "voice_prefix": bool(speakers),
    }
    return {"settings": settings, SPEAKERS: speakers, LANGUAGES: languages}


def _remembered(folder: Path) -> dict[str, Any]:
    """Return what the export in a folder remembers, as fields of a voice; nothing for models of others."""
    card = export_card(folder)
    if card is None:
        return {}
    facts = card.facts
    codec = facts.get(CODEC)
    known: dict[str, Any] = {CODEC: codec} if isinstance(codec, str) else {}
    lists = {name: facts.get(name) for name in (SPEAKERS, LANGUAGES)}
    return known | {name: tuple(map(str, given)) for name, given in lists.items() if isinstance(given, list)}
