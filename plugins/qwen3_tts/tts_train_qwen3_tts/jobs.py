"""The jobs of the family, for Qwen3-TTS: voices while preparing and speaking, and the folders that qwen-tts loads."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from tts_train.contract import ConfigError
from tts_train.families.token_lm import TokenPrepare, TokenSynth
from tts_train_qwen3_tts.codec.sizes import SUFFIX
from tts_train_qwen3_tts.model import QWEN3_TTS, prompt_of
from tts_train_qwen3_tts.prompt import language_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tts_train.contract import Census, Line, RowEncoder

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Qwen3TTSPrepare(TokenPrepare):
    """Turn recordings with text into frames of codes and voices; the same command again continues."""

    token_lm = QWEN3_TTS

    codec: str = QWEN3_TTS.codec
    """Codec: a hub name, a ``speech_tokenizer`` folder, or ``tiny``."""
    tokenizer: str = QWEN3_TTS.base
    """Tokenizer of the model to train: a hub name, a local folder, or ``tiny``."""
    speaker_encoder: str = "auto"
    """Base model whose speaker encoder takes the voices: a hub name, a folder or ``tiny``; ``auto`` that of
    ``--tokenizer``; ``none`` for speakers that the model knows by name."""
    dedup: bool = False
    """Drop frames that repeat the first code of the one before; the released models were trained with all of them."""
    voice_prefix: Literal["auto", "always", "never"] = "auto"
    """Name the speaker of each row; ``never`` leaves speakers out, as for a model that is told a voice in words."""

    codec_window: Literal["off", "on"] = "off"
    """Hold the codec's attention to the 10 s that its configuration names, as transformers 5 does with its files;
    ``off`` gives the codes of upstream, which differ for longer clips alone."""

    @property
    def codec_source(self) -> str:
        """The codec, with the window of its encoder."""
        return f"{self.codec}{SUFFIX}{self.codec_window}"

    @property
    def takes_voices(self) -> str:
        """What takes the voices; an empty one where rows have none."""
        if self.speaker_encoder == "none" or self.voice_prefix == "never":
            return ""
        return self.tokenizer if self.speaker_encoder == "auto" else self.speaker_encoder

    def fit_options(self) -> list[str]:
        """Return the base that the set was made for, unless recipes name it already."""
        return [] if self.tokenizer == QWEN3_TTS.base else ["--model.init_from", self.tokenizer]

    def reading(self) -> RowEncoder:
        """Return what reads a row; nothing is downloaded for it."""
        found: Any = super().reading()
        made: RowEncoder = replace(found, speaker_encoder=self.takes_voices)
        return made

    def names_voices(self, census: Census) -> bool:
        """Rows name their speaker, one or many, unless they shall not."""
        if self.voice_prefix == "never" and census.named > 1:
            _log.warning("%d speakers and --voice_prefix never: only instructions tell them apart.", census.named)
        return self.voice_prefix != "never"

    def encoder_class(self) -> Any:  # noqa: ANN401
        """Return the class of what makes rows."""
        from tts_train_qwen3_tts.encode import Qwen3TTSEncoder

        return Qwen3TTSEncoder

    def more(self, census: Census, device: str) -> dict[str, Any]:
        """Return whose voices are in the corpus and what takes them."""
        from tts_train_qwen3_tts.encode import encoder_fingerprint, known_speakers

        made: dict[str, Any] = {"codec_window": self.codec_window}
        if source := self.takes_voices:
            voices = tuple(sorted({(name or "").lower() for name in census.speakers}))
            print_ = encoder_fingerprint(source)
            return {**made, "voices": voices, "speaker_encoder": source, "speaker_fingerprint": print_}
        if self.voice_prefix == "never" or not census.named:
            return made
        known, dialects = known_speakers(self.tokenizer)
        return {**made, "known": known, "dialects": dialects}


@dataclass(kw_only=True)
class Qwen3TTSSynth(TokenSynth):
    """Speak a text with a run, a checkpoint, an export, or an upstream model, and write 24 kHz 16-bit mono."""

    token_lm = QWEN3_TTS

    language: str = "auto"
    """Language of the text, as in ``german`` or ``de``; ``auto`` leaves it to the model."""
    instruct: str | None = None
    """How it is to be spoken, in words; for models that were trained with instructions."""
    reference: list[str] | str | None = None
    """Recordings of the voice to speak in, for a Base model: one file or a list ``[a.wav,b.wav]``."""
    reference_text: list[str] | str | None = None
    """What is said in each reference, in the same order: speech then goes on in its manner; without it only the voice
    is taken."""
    temperature: float = QWEN3_TTS.sampling.temperature
    """Below 1 is steadier, above livelier; 0 takes the most likely code, which tends to loop."""
    top_p: float = QWEN3_TTS.sampling.top_p
    """Draw from the smallest set of codes that has this much probability, above 0 to 1."""
    top_k: int = QWEN3_TTS.sampling.top_k
    """Draw from this many most likely codes at most; 0 sets no limit."""
    repetition_penalty: float = QWEN3_TTS.sampling.repetition_penalty
    """Makes first codes that were used before less likely; 1 does nothing."""
    max_new_tokens: int = 16 * 375
    """Most codes to generate, 16 a frame: 6000 are 30 s."""

    def __post_init__(self) -> None:
        """Name wrong values before anything is loaded; speakers are known in lower case."""
        super().__post_init__()
        self.speaker = None if self.speaker is None else self.speaker.lower()
        if self.codec is None and (self.source / "speech_tokenizer").is_dir():
            self.codec = str(self.source)  # a model's folder brings its own
        if self.reference and self.speaker:
            raise ConfigError(f"--speaker {self.speaker} and --reference both say whose voice it is. Give one of them.")

    def asked(self) -> dict[str, str | None]:
        """Return ``language`` and ``instruct``."""
        return {"language": self.language, "instruct": self.instruct}

    def of(self, line: Line) -> Qwen3TTSSynth:
        """Return the job that speaks a line, in its language unless --language was given."""
        language = line.language if self.language == "auto" else self.language
        speaker = None if self.reference else self.speaker or line.speaker
        named: dict[str, Any] = {"language": language or "auto", "speaker": speaker}
        made: Any = replace(super().of(line), **named)
        job: Qwen3TTSSynth = made
        return job

    def _open(self) -> Any:  # noqa: ANN401 - the family's TokenVoice
        """Load what speaking needs, and take the voice of the references."""
        if not self.reference or self.reference_text:
            voice = super()._open()
        else:
            # Without its words a recording cannot be continued, but its voice can be taken.
            voice = replace(self, reference=None)._open_named()
        return self._with_speakers(voice)

    def _open_named(self) -> Any:  # noqa: ANN401 - the family's TokenVoice
        return super()._open()

    def _with_speakers(self, voice: Any) -> Any:  # noqa: ANN401 - the family's TokenVoice
        from tts_train.contract import is_run
        from tts_train_qwen3_tts.cloning import CLONED, take_voice

        lm: Any = voice.lm
        self._check_language(prompt_of(lm.config).languages)
        if self.reference:
            take_voice(lm, [self.reference] if isinstance(self.reference, str) else list(self.reference))
            return replace(voice, speakers=(), cloned=CLONED)
        known = prompt_of(lm.config).speakers
        if self.instruct and lm.config.kind == "custom_voice" and getattr(lm.config, "tts_model_size", "") == "0b6":
            _log.warning(
                "The 0.6B custom voices were released without instructions, and qwen-tts leaves --instruct out there. "
                "It is given to the model here: only one that was trained with instructions follows them."
            )
        # What a run was trained without, it does not need.
        if lm.config.kind == "base" and not known and not is_run(self.source):
            raise ConfigError(
                f"{self.source} is a Base model, which speaks in the voice of a recording: give --reference FILE, "
                "and with --reference_text what is said in it."
            )
        if self.speaker and not any(known):
            raise ConfigError(f"--speaker {self.speaker}: {self.source} knows no speaker by name. Leave --speaker out.")
        # A voice alone is taken whether it is named or not.
        named = () if len(known) == 1 and self.speaker is None else tuple(filter(None, known))
        return replace(voice, speakers=named)

    def _check_language(self, tags: Mapping[str, int]) -> None:
        """Refuse a language that the user gives and the model has no tag for: it would be spoken without one."""
        name = language_name(self.language)
        if name not in ("auto", *tags):
            known = ", ".join(sorted(tag for tag in tags if not tag.endswith("_dialect")))
            raise ConfigError(
                f"--language {self.language}: the model has tags for {known}. Give one of them, or leave --language "
                "out for a language without a tag."
            )
