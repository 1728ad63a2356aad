"""The synth job: a text to a sound file, with a count of everything that was no sound."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tts_train.contract.jobs import Drawn, Line, SynthJob
from tts_train.contract.reports import SynthReport
from tts_train.corpus.language import other_language
from tts_train.errors import ConfigError, DataError
from tts_train.families.token_lm.model import Sampling
from tts_train.families.token_lm.speaking.parts import SpokenPart, join, judge, split_text, totals
from tts_train.families.token_lm.speaking.reference import paired, read_reference

if TYPE_CHECKING:
    import torch

    from tts_train.families.token_lm.decoding.generate import Continued
    from tts_train.families.token_lm.layout import Ids
    from tts_train.families.token_lm.model import TokenLM
    from tts_train.families.token_lm.speaking.voice import TokenVoice

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class TokenSynth(SynthJob):
    """Speak a text with a run, a checkpoint, an export, or an upstream model, and write 16-bit mono."""

    token_lm: ClassVar[TokenLM]
    """What kind of model it is; a backend's subclass says it."""

    codec: str | None = None
    """Codec: a hub name or a local folder; none takes the one that made the run's data, as far as that is known, else
    that of the released models."""
    temperature: float = 0.6
    """Below 1 is steadier, above livelier; 0 takes the most likely token, which tends to loop."""
    top_p: float = 0.95
    """Draw from the smallest set of tokens that has this much probability, above 0 to 1."""
    top_k: int = 0
    """Draw from this many most likely tokens at most; 0 sets no limit."""
    repetition_penalty: float = 1.1
    """Makes used tokens less likely; 1 does nothing."""
    constrain: Literal["auto", "none", "audio", "slots"] = "auto"
    """Tokens that may come: ``none`` all, ``audio`` only sound, ``slots`` only what can stand at the position;
    ``auto`` what the model was trained with."""
    reference: list[str] | str | None = None
    """Recordings of an unseen voice to continue with (zero-shot): one file or a list ``[a.wav,b.wav]``."""
    reference_text: list[str] | str | None = None
    """What is said in each reference, in the same order."""
    pause: float = 0.15
    """Seconds of silence between the parts in which a text of more than 180 letters is spoken."""
    stream: bool = False
    """Decode while the model still speaks, as a player would; the sound is the same up to rounding."""
    device: str = "auto"
    """Where to compute: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    dtype: Literal["auto", "bf16", "fp32"] = "auto"
    """Type of the weights; ``auto`` is bf16 on a GPU and fp32 on a CPU."""
    tokenizer: str | None = None
    """Tokenizer: a folder, a hub name or ``tiny``; none takes the model's own."""
    batch_size: int = 0
    """Most sentences spoken at once where there are many; 0 takes what the memory has room for. The sound is the
    same."""

    def __post_init__(self) -> None:
        """Name wrong values before anything is loaded or spoken."""
        if self.batch_size < 0:
            raise ConfigError(f"--batch_size must be 0 (as many as fit) or more, and {self.batch_size} was given.")
        if not 0 <= self.pause <= 10:
            raise ConfigError(f"--pause must be from 0 to 10 seconds, and {self.pause:g} was given.")
        self._sampling()

    def run(self) -> SynthReport:
        """Generate, decode, write the file and say how it went.

        Raises:
            DataError: if what was generated holds no whole frame; nothing is written then.
        """
        voice = self._open()
        _warn_of_language(self.text, voice.languages)
        return self._say(voice)

    def of(self, line: Line) -> TokenSynth:
        """Return the job that speaks a line, by its speaker unless --speaker was given."""
        return replace(super().of(line), speaker=self.speaker or line.speaker)

    def try_open(self, lines: Sequence[Line]) -> None:
        """Open the model, its tokenizer and the codec, and let go of them."""
        del lines
        self._open()

    def speak_all(self, lines: Iterable[Line]) -> Iterator[SynthReport]:
        """Speak many lines with a model that is loaded once; a speaker whom it does not know is not named to it."""
        voice = self._open()
        for jobs in self._batches([self._for(line, voice) for line in lines]):
            yield from self._say_together(jobs, voice)

    def draw(self, lines: Iterable[Line]) -> Iterator[Drawn]:
        """Say each line as one utterance, with the ids of its prompt and those that were drawn."""
        from tts_train.families.token_lm.speaking.drawing import draw_takes

        opens = "_voice" not in vars(self)
        voice = self._voice
        jobs = [self._for(line, voice) for line in lines]
        # Told once, of the first lines, where a set has thousands.
        for job in [job for job in jobs if opens and (self.speaker or not job.speaker)][:1]:
            job._name_voice(voice)
        for some in self._batches(jobs):
            prompts = [job._one_prompt(voice) for job in some]
            given: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size or None}
            yield from draw_takes(voice, prompts, seeds=[job.seed for job in some], **given)

    def drawn_columns(self) -> Mapping[str, str]:
        """Return ``prompt_ids`` and ``drawn_ids``, the end of speech last where it came."""
        from tts_train.families.token_lm.speaking.drawing import DRAWN_COLUMNS

        return DRAWN_COLUMNS

    def known(self) -> Mapping[str, Any]:
        """Return the settings, speakers and languages of the training data, as far as the source tells them."""
        from tts_train.families.token_lm.speaking.sources import known_of

        known = known_of(self.token_lm, self.source)
        given = {name: value for name, value in (("codec", self.codec), ("tokenizer", self.tokenizer)) if value}
        return {**known, "settings": {**known["settings"], **given}}

    def round_trip(self, recordings: Iterable[tuple[Path, Line]]) -> bool:
        """Encode and decode recordings with the codec that this source speaks through, repeated frames kept."""
        from tts_train.families.token_lm.speaking.sources import codec_of

        # What a listener compares with must have gone through the codec that the model speaks through.
        source = self.codec or codec_of(self.token_lm, self.source) or self.token_lm.codec
        codec = self.token_lm.load_codec(source, device=self._device())
        for recording, line in recordings:
            samples = read_reference(recording, codec)
            sound = codec.decode(codec.encode([samples])[0], seed=self.seed)
            self.write(sound[: len(samples)], sample_rate=codec.sample_rate, out=line.out)
        return True

    def asked(self) -> dict[str, str | None]:
        """Return ``language`` and ``instruct``, as far as the model is asked for these."""
        return {}

    @cached_property
    def _voice(self) -> TokenVoice:
        """What :meth:`draw` speaks with; it is called for one part of a set after another."""
        return self._open()

    def _batches(self, jobs: Sequence[TokenSynth]) -> Iterator[Sequence[TokenSynth]]:
        from tts_train.families.token_lm.decoding.memory import MOST, MOST_ON_CPU

        size = self.batch_size or (MOST_ON_CPU if self._device().type == "cpu" else MOST)
        return (jobs[first : first + size] for first in range(0, len(jobs), size))

    def _open(self) -> TokenVoice:
        """Load what speaking needs, and can be used for many texts."""
        import torch

        from tts_train.families.token_lm.speaking.voice import open_voice

        references = paired(self.reference, self.reference_text)
        device = self._device()
        # A CPU computes slower in bf16, and the sound is the better in float32.
        half = self.dtype == "bf16" or (self.dtype == "auto" and device.type == "cuda")
        return open_voice(
            self.token_lm,
            self.source,
            device=device,
            dtype=torch.bfloat16 if half else torch.float32,
            sampling=self._sampling(),
            as_trained=self.constrain == "auto",
            codec=self.codec,
            tokenizer=self.tokenizer,
            references=references,
        )

    def _for(self, line: Line, voice: TokenVoice) -> TokenSynth:
        job = self.of(line)
        # Sentences of a set may name anybody; only a name that the user gives is refused.
        unknown = self.speaker is None and job.speaker not in voice.speakers
        return replace(job, speaker=None) if unknown else job

    def _say_together(self, jobs: Sequence[TokenSynth], voice: TokenVoice) -> Iterator[SynthReport]:
        """Generate what several jobs say in one batch; each is decoded and written by itself."""
        if self.stream:
            yield from (_told(partial(job._say, voice)) for job in jobs)
            return
        wanted = [job._prompts_or_error(voice) for job in jobs]
        asked = [(job, each) for job, each in zip(jobs, wanted, strict=True) if not isinstance(each, DataError)]
        prompts = [prompt for _, each in asked for prompt in each]
        # A seed for each part, as when it is spoken alone: the sound is the same.
        seeds = [job.seed + number for job, each in asked for number in range(len(each))]
        given: dict[str, Any] = {"max_new_tokens": self.max_new_tokens, "batch_size": self.batch_size or None}
        said = iter(voice.say(prompts, seeds=seeds, **given) if asked else [])
        for job, each in zip(jobs, wanted, strict=True):
            if isinstance(each, DataError):
                yield SynthReport(error=str(each))
            else:
                yield _told(partial(job._written, list(islice(said, len(each))), voice))

    def _say(self, voice: TokenVoice) -> SynthReport:
        """Speak the parts of the text one after the other."""
        prompts = self._prompts(voice)
        if not self.stream:
            seeds = [self.seed + number for number in range(len(prompts))]
            said = voice.say(prompts, seeds=seeds, max_new_tokens=self.max_new_tokens, batch_size=1)
            return self._written(said, voice)
        each = zip(split_text(self.text), prompts, strict=True)
        return self._report([self._streamed(voice, *part, self.seed + n) for n, part in enumerate(each)], voice)

    def _written(self, said: Sequence[Continued], voice: TokenVoice) -> SynthReport:
        sounds = [voice.sound(each.content.codes, seed=self.seed + n) for n, each in enumerate(said)]
        each = zip(split_text(self.text), said, sounds, strict=True)
        return self._report([SpokenPart(text=text, spoken=spoken, sound=sound) for text, spoken, sound in each], voice)

    def _streamed(self, voice: TokenVoice, text: str, prompt: Ids, seed: int) -> SpokenPart:
        """Return what was said of a part of the text, decoded while it was generated."""
        import time

        import torch

        ids: list[int] = []
        started = time.perf_counter()

        def heard() -> Iterator[int]:
            for token in voice.stream(prompt, seed=seed, max_new_tokens=self.max_new_tokens):
                ids.append(token)
                yield token

        # Into one file all the same: what streaming shows here is that its sound is the same.
        chunks = list(voice.stream_decoder(seed=seed).decode(heard()))
        sound = torch.cat(chunks or [torch.zeros(0)])
        return SpokenPart(text=text, spoken=voice.read(ids, time.perf_counter() - started), sound=sound)

    def _report(self, parts: Sequence[SpokenPart], voice: TokenVoice) -> SynthReport:
        judge(self.token_lm.layout, parts, max_new_tokens=self.max_new_tokens, unwritten=str(self.out))
        rate = voice.codec.sample_rate
        sound = join(parts, pause=self.pause, sample_rate=rate)
        self.write(sound, sample_rate=rate)
        figures = {**totals(parts), "seed": self.seed}
        return SynthReport(path=str(self.out), seconds=round(len(sound) / rate, 3), more=figures)

    def _sampling(self) -> Sampling:
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            constrain="none" if self.constrain == "auto" else self.constrain,
        )

    def _device(self) -> torch.device:
        import torch

        from tts_train.parallel.processes import choose_device

        device = torch.device(choose_device(self.device))
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)  # Triton launches on the present one, wherever tensors lie
        return device

    def _prompts_or_error(self, voice: TokenVoice) -> list[Ids] | DataError:
        try:
            return self._prompts(voice)
        except DataError as error:
            return error

    def _one_prompt(self, voice: TokenVoice) -> Ids | DataError:
        """Return the prompt of the whole text, or why it cannot be one utterance."""
        from tts_train.families.token_lm.speaking.drawing import require_one_utterance

        try:
            require_one_utterance(self.text)
            return voice.prompts([self.text], self.speaker, **self.asked())[0]
        except DataError as error:
            return error

    def _prompts(self, voice: TokenVoice) -> list[Ids]:
        """Return the prompt of each part of the text."""
        self._name_voice(voice)
        if not self.text.strip():
            raise ConfigError("--text is empty; say what to speak.")
        return voice.prompts(split_text(self.text), self.speaker, **self.asked())

    def _name_voice(self, voice: TokenVoice) -> None:
        """Refuse a name that the model was not trained with, and say so where it has names and none is given."""
        if not voice.speakers or self.speaker in voice.speakers:
            return
        names = ", ".join(voice.speakers[:10]) + (", …" if len(voice.speakers) > 10 else "")
        if self.speaker is not None:
            raise ConfigError(
                f"--speaker {self.speaker}: this model was trained with the voices {names}. Give one of them."
            )
        _log.warning("This model was trained with voice names, and no --speaker was given. It knows: %s.", names)


def _warn_of_language(text: str, trained: Sequence[str]) -> None:
    """Say where a text is in a language that the model was not trained on."""
    found = other_language(text, trained)
    if found is not None:
        _log.warning(
            "The text looks like %r, and this model was trained on %s: it may read it with their sounds, or say "
            "something else.",
            found,
            ", ".join(trained),
        )


def _told(say: Callable[[], SynthReport]) -> SynthReport:
    """Return what a job reports, or why it gave no sound."""
    try:
        return say()
    except DataError as error:
        return SynthReport(error=str(error))
