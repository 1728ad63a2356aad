"""What a backend says of its model: one value, with the codec and the sampling that it names; no torch at import."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from tts_train.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import ArrayLike
    from torch import Tensor, nn
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from tts_train.families.token_lm.export.card import CardText
    from tts_train.families.token_lm.layout import Levels, TokenLayout
    from tts_train.families.token_lm.network.start import TinyOptions
    from tts_train.families.token_lm.prompts import PromptFormat


def weights_fingerprint(name: str, network: nn.Module) -> str:
    """Return ``name-`` and 16 hex digits that the names and every bit of a network's weights decide."""
    import xxhash

    digest = xxhash.xxh3_64()
    for key, tensor in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f"{name}-{digest.hexdigest()}"


def check_clip(index: int, clip: Tensor) -> None:
    """Refuse a clip that no codec can encode: it must be 1-D float32, not empty, and finite.

    Raises:
        DataError: if it is not, naming it by its index.
    """
    import torch

    if clip.ndim != 1 or clip.dtype != torch.float32:
        raise DataError(f"Clip {index} must be 1-D float32, not {clip.dtype} of shape {list(clip.shape)}.")
    if not clip.numel():
        raise DataError(f"Clip {index} is empty: there is nothing to encode.")
    if not bool(torch.isfinite(clip).all()):
        raise DataError(f"Clip {index} has samples that are not finite.")


class Codec(Protocol):
    """Encodes and decodes sound, which is 1-D float32 at ``sample_rate``, about [-1, 1]."""

    @property
    def sample_rate(self) -> int:
        """Samples a second."""

    @property
    def frame_samples(self) -> int:
        """Samples in a frame; a clip of T samples becomes ceil(T / frame_samples) frames."""

    @property
    def context_frames(self) -> int:
        """Frames on either side that the sound of a frame depends on: what is decoded with it in a window.

        A codec that looks back only has ``ahead_frames = 0`` besides, and ``decode_tail(levels, count, first_frame=0)``
        for the sound of the last frames alone: a listener then waits for no more than a frame.
        """

    @property
    def fingerprint(self) -> str:
        """A name that changes whenever the codes could: part of the address of cached codes."""

    def encode(self, clips: Sequence[Tensor]) -> list[Levels]:
        """Return the codes of each clip, the same whatever clips are encoded with it."""

    def decode(self, levels: Sequence[ArrayLike], *, seed: int | None = 0, first_frame: int = 0) -> Tensor:
        """Return frames * frame_samples samples; ``seed=None`` decodes without noise, where a codec has any."""


Constrain: TypeAlias = Literal["none", "audio", "slots"]
"""``none`` lets every id through; ``audio`` the added ones; ``slots`` the codes of the slot that is due, and the end of
speech between frames."""

HELD_TO: dict[str, Constrain] = {"full": "none", "audio": "audio", "slot": "slots"}
"""Which ids may come, by ``--model.head.softmax``: what a model was trained against."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next id is drawn."""

    temperature: float = 0.6
    """Below 1 sharpens the distribution; 0 takes the most likely id, which tends to loop."""
    top_p: float = 0.95
    """Draw from the smallest set of ids that has this much probability, above 0 to 1."""
    top_k: int = 0
    """Draw from this many most likely ids at most; 0 sets no limit."""
    repetition_penalty: float = 1.1
    """Makes ids that were used before, in prompt or output, less likely; 1 does nothing."""
    constrain: Constrain = "none"
    """Which ids may come."""

    def __post_init__(self) -> None:
        faults = [
            f"--temperature must be 0 or more, not {self.temperature}" if not self.temperature >= 0 else "",
            f"--top_p must be above 0 and at most 1, not {self.top_p}" if not 0 < self.top_p <= 1 else "",
            f"--top_k must be 0 or more, not {self.top_k}" if self.top_k < 0 else "",
            f"--repetition_penalty must be above 0, not {self.repetition_penalty}"
            if not self.repetition_penalty > 0
            else "",
            f"--constrain is none, audio or slots, not {self.constrain!r}"
            if self.constrain not in ("none", "audio", "slots")
            else "",
        ]
        if any(faults):
            raise ConfigError("; ".join(fault for fault in faults if fault) + ".")


def _no_release(init_from: str) -> PretrainedConfig | None:
    del init_from
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenLM:
    """A causal language model of transformers that speaks codec tokens.

    It is pickled by reference, so that other processes import it from where it is defined.
    """

    name: str
    """For messages: ``Llasa``."""
    backend: str
    """Name of the backend that it belongs to: what run cards and exports say, and ``--backend`` takes."""
    where: str
    """Where this value is found: ``package.module:NAME``."""
    kind: str
    """What prepared folders say that they hold: ``backend/stage``."""
    layout: TokenLayout
    prompt: PromptFormat
    codec_loader: Callable[..., Codec] | str
    """``loader(source, device=...)``, or ``package.module:function``, imported only when a codec is loaded: it needs
    torch, which listings do without."""
    codec: str
    """The codec of the released models: what speaking takes where nothing else is known."""
    prompt_of: Callable[[PretrainedConfig], PromptFormat] | None = None
    """Returns the format of a network by its configuration, where that names speakers or languages; None where every
    network has :attr:`prompt`."""
    load_tokenizer: Callable[[str], PreTrainedTokenizerBase]
    """Returns the tokenizer of a folder, a hub name or ``tiny``, checked against the layout."""
    base: str
    """The released model that training starts from where nothing else is said: a hub name."""
    tiny_config: Callable[[TinyOptions], PretrainedConfig]
    """Returns the configuration of a network of some size with the real vocabulary and positions."""
    released_config: Callable[[str], PretrainedConfig | None] = _no_release
    """Returns the configuration of a released model by its hub name, for memory estimates without its files."""
    model_types: tuple[str, ...] = ("llama",)
    """Kinds of network (``model_type`` of config.json) that a base may be, of those that the family can train."""
    base_values: Mapping[str, int | str] = field(default_factory=dict)
    """What a base's config.json must say besides the rows of its vocabulary, by name, ``part.name`` inside a part; the
    name of another entry stands for the value of that one."""
    kept_entries: tuple[str, ...] = ()
    """Entries of the configuration that a run decides whatever its base says, such as the names of its voices."""
    model_class: str | None = None
    """``package.module:Class`` of the network, where it is none that transformers has for causal language models."""
    released_class: str | None = None
    """``package.module:Class`` that others load released models with, where ``AutoModelForCausalLM`` does not."""
    optional_rows: tuple[str, ...] = ()
    """Names of the last tokens of the vocabulary, where a released base has no rows for them; each gets the mean of
    the others, which leaves every other probability nearly as it was (Hewitt 2021). They are never targets."""
    where_to_get_it: str = ""
    """Sentences that end the message about a base that cannot be loaded, for example that it is gated."""
    description_key: str = "network_config"
    """Key of a checkpoint that holds the network's configuration as plain values."""
    softmax_key: str = "trained_softmax"
    """Entry of an exported config.json that keeps ``--model.head.softmax``, where it is not ``full``."""
    sampling: Sampling = Sampling()
    """How the model is usually spoken with; exports say it to other programs."""
    max_new_tokens: int = 1200
    """Most tokens of an utterance, for other programs that load an export."""
    built_in: tuple[str, ...] = ("tiny", "random")
    """Codecs and tokenizers that need no file."""
    codec_file: str = "config.json"
    """A file of every codec on the hub, by which one tells whether it is on this machine."""
    codec_bytes: int = 64 * 6 * 4
    """Memory in bytes that decoding takes for each sample of sound."""
    chat_template: str | None = None
    """A Jinja template of the inference prompt, written with exported tokenizers."""
    write_words: Callable[[PreTrainedTokenizerBase, Path], None] | None = None
    """Writes into an export what makes prompts, where that is another thing than a tokenizer: ``processor``."""
    gguf_pre_tokenizer: str | None = None
    """llama.cpp's name for the way the tokenizer cuts text; None where there is no GGUF export."""
    card: CardText | None = None
    """What the README.md of an export says of this model besides what all have in common."""
    drops_repeats: bool = True
    """Whether frames that repeat the first code of the one before are left out, in training data and references."""
    prompt_tokens: int = 20
    """Positions of a usual clip's prompt, for memory estimates."""
    utterance_tokens: int = 350
    """Positions of a usual clip, prompt included."""

    def load_codec(self, source: str, *, device: str | torch.device = "cpu") -> Codec:
        """Load a codec.

        Args:
            source: A hub name, a folder, or one of :attr:`built_in`.
            device: Where it computes.

        Raises:
            ConfigError: if there is none, or it is another codec.
        """
        loader: Any = self.codec_loader
        codec: Codec = (pkgutil.resolve_name(loader) if isinstance(loader, str) else loader)(source, device=device)
        return codec

    def format_of(self, config: PretrainedConfig) -> PromptFormat:
        """Return the format in which a network is spoken to."""
        return self.prompt if self.prompt_of is None else self.prompt_of(config)

    @property
    def network_class(self) -> Any:  # noqa: ANN401 - a class of transformers
        """The class of :attr:`model_class`; None where transformers knows it by the configuration."""
        # Found when it is asked for: it needs transformers, which listings do without.
        return None if self.model_class is None else pkgutil.resolve_name(self.model_class)

    # Its functions cannot be pickled, and processes of prepare must get it: they import it by name.
    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return pkgutil.resolve_name, (self.where,)
