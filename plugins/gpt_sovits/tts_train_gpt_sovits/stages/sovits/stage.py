"""What the stages ``sovits`` and ``cfm`` share: means over the validation set, the work in a batch, and a voice."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from tts_train.contract import ConfigError, StageModule, Work
from tts_train_gpt_sovits.networks.sovits.cfm import FlowSovitsNetwork
from tts_train_gpt_sovits.networks.sovits.network import SovitsNetwork
from tts_train_gpt_sovits.signal.versions import CODES_PER_SECOND
from tts_train_gpt_sovits.stages.sovits.batch import FRAMES_PER_CODE, SovitsBatch
from tts_train_gpt_sovits.stages.sovits.data import SovitsData
from tts_train_gpt_sovits.starts.sovits_base import LoadedGenerator
from tts_train_gpt_sovits.starts.sovits_restore import DESCRIPTION

if TYPE_CHECKING:
    from tts_train_gpt_sovits.voice.listen import SovitsVoice

N = TypeVar("N", SovitsNetwork, FlowSovitsNetwork)


class SovitsStage(StageModule, Generic[N]):
    """A network that makes sound of semantic tokens.

    Args:
        gpt: GPT that makes tokens of the texts in ``--listen.sentences``.
    """

    description_key = DESCRIPTION

    def __init__(self, gpt: str | None = None) -> None:
        super().__init__()
        self.gpt = gpt
        self.network: N | None = None

    def work_in(self, batch: SovitsBatch) -> Work:
        """Return the codes and phonemes, and the seconds of speech in a batch."""
        codes = batch["frames"].sum() / FRAMES_PER_CODE
        # Tensors, so that no step waits for a number that is only logged now and then.
        return Work(tokens=codes + batch["phoneme_counts"].sum(), audio_seconds=codes / CODES_PER_SECOND)

    def voice(self) -> SovitsVoice | None:
        """Return what speaks with the weights as they are: validation recordings from their own tokens, or texts."""
        from tts_train_gpt_sovits.voice.listen import SovitsVoice, required
        from tts_train_gpt_sovits.voice.load import open_gpt
        from tts_train_gpt_sovits.voice.voice import GptSovitsVoice

        data = self.stage_data
        held = required(data.held_out() if isinstance(data, SovitsData) else None)
        # Kept for the whole run, since the callback keeps the voice.
        gpt = None if self.gpt is None else open_gpt(self.gpt, self.device)
        return SovitsVoice(self, GptSovitsVoice(gpt=gpt, sovits=self._built, version=self._loaded.version), held)

    def check_listening(self, sentences: int | Sequence[str]) -> None:
        """Refuse texts without a GPT that makes their tokens, a GPT that is none, and texts that cannot be read."""
        from tts_train_gpt_sovits.starts.gpt import check_source
        from tts_train_gpt_sovits.voice.listen import NEEDS_GPT, check_texts

        if self.gpt is not None:
            check_source(self.gpt)
        if not isinstance(sentences, int):
            if self.gpt is None:
                raise ConfigError(NEEDS_GPT)
            check_texts(sentences, self.stage_data.held_out() if isinstance(self.stage_data, SovitsData) else None)

    def voice_bytes(self, passages: int) -> int:
        """Return the memory in bytes that listening takes besides the weights in training."""
        from tts_train_gpt_sovits.starts.gpt import planned_network
        from tts_train_gpt_sovits.voice.listen import listening_bytes

        del passages  # one is said after the other
        gpt = None if self.gpt is None else planned_network(self.gpt)
        return listening_bytes(self._built, self._loaded.version, gpt)

    def _each_language(self, figure: str) -> list[str]:
        """Return a figure's name for each language of the validation set."""
        data = self.stage_data
        languages: Sequence[str] = data.val_languages if isinstance(data, SovitsData) else ()
        return [f"{figure}/{each}" for each in languages if each]

    @property
    @abstractmethod
    def _loaded(self) -> LoadedGenerator:
        """What was read of the generator, its version among it."""

    @property
    def _built(self) -> N:
        assert self.network is not None
        return self.network
