"""The synth job: a text and a reference to a sound file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tts_train.contract import ConfigError, DataError, Drawn, Line, SynthJob, SynthReport
from tts_train.corpus import says_nothing

if TYPE_CHECKING:
    from torch import Tensor

    from tts_train_gpt_sovits.networks.gpt.generate import SamplingOptions
    from tts_train_gpt_sovits.preparing.encode import Networks
    from tts_train_gpt_sovits.text import SpokenText
    from tts_train_gpt_sovits.voice.load import Pair
    from tts_train_gpt_sovits.voice.reference import Reference
    from tts_train_gpt_sovits.voice.voice import Delivery, GptSovitsVoice, Ready, SpokenSentence

_log = logging.getLogger(__name__)

_TAKE = {
    "phonemes": "list<int32>",
    "prompt_phonemes": "int32",
    "bert": "list<halffloat>",
    "prompt": "list<int32>",
    "codes": "list<int32>",
}
"""What a take is scored by: phonemes of the reference and then the text, how many of them are the reference's, features
of all (1,024 a phoneme, row by row; null where there are none), the reference's codes, and the codes drawn."""


@dataclass(kw_only=True)
class GptSovitsSynth(SynthJob):
    """Speak a text with a GPT and a SoVITS, ours or upstream's, and write 32 kHz 16-bit mono.

    Either network can be the source. Without --reference the voice continues an utterance of its training data.
    """

    gpt: str | None = None
    """The GPT, where the source is a SoVITS: a run, a file, or a released version's name."""
    sovits: str | None = None
    """The SoVITS, where the source is a GPT; none takes the base that its data were prepared with."""
    reference: Path | None = None
    """Recording of 3 to 10 seconds whose voice and manner are continued."""
    reference_text: str | None = None
    """What is said in it."""
    reference_language: str | None = None
    """Its language; none takes that of the text."""
    voice: Path | None = None
    """Prepared set whose utterances are continued, where the source is a file or another voice is wanted."""
    language: str | None = None
    """Language of the text: zh, en, ja, ko or yue; none takes that of the reference."""
    version: str | None = None
    """Released version for whatever is not named, such as v2; none takes that of the training data."""
    models: str | None = None
    """Networks that read references and Chinese text: ``released``, upstream's folder ``pretrained_models``, or
    ``tiny``; none takes what the training data were prepared with."""
    top_k: int = 15
    """Draw from this many likeliest tokens; 0 sets no limit."""
    top_p: float = 1.0
    """Draw from the smallest set of tokens that has this much probability, above 0 to 1."""
    temperature: float = 1.0
    """Below 1 is steadier, above livelier."""
    repetition_penalty: float = 1.35
    """Makes used tokens less likely; 1 for none."""
    noise_scale: float = 0.5
    """How much the sound varies around the likeliest, 0 or more."""
    speed: float = 1.0
    """How much faster than the voice speaks by itself."""
    pause: float = 0.3
    """Seconds of silence after a sentence."""
    device: str = "auto"
    """Where to compute: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""

    def run(self) -> SynthReport:
        """Speak sentence by sentence, write the file and say how it went.

        Raises:
            DataError: if nothing was spoken; nothing is written then.
        """
        from tts_train_gpt_sovits.voice.sentences import warn_of_language

        ready = self._open()
        language = self.language or ready.reference_for(self.speaker).language
        warn_of_language(self.text, language, ready.trained)
        return self._say(ready)

    def of(self, line: Line) -> GptSovitsSynth:
        """Return the job that speaks a line, in its language and by its speaker unless they were given."""
        language, speaker = self.language or line.language, self.speaker or line.speaker
        return replace(super().of(line), language=language, speaker=speaker)

    def try_open(self, lines: Sequence[Line]) -> None:
        """Open both networks, what each line continues, and what reads its language, and let go of them."""
        ready = self._open({line.language for line in lines})
        for line in lines:
            job = self.of(line)
            with contextlib.suppress(DataError):  # what one line lacks is told with that line
                reference = ready.reference_for(job.speaker)
                ready.front_end.speak(job.text, job.language or reference.language)

    def speak_all(self, lines: Iterable[Line]) -> Iterator[SynthReport]:
        """Speak many lines with networks that are loaded once; each speaker continues an utterance of his own."""
        waiting = list(lines)
        ready = self._open({line.language for line in waiting})
        for line in waiting:
            try:
                yield self.of(line)._say(ready)
            except DataError as error:
                yield SynthReport(error=str(error))

    def round_trip(self, recordings: Iterable[tuple[Path, Line]]) -> bool:
        """Make semantic tokens of recordings and sound of these, each in its own voice: no GPT can sound better."""
        waiting = list(recordings)
        ready = self._open({line.language for _, line in waiting}, listens=True)
        for recording, line in waiting:
            sound = ready.resound(recording, line.text, line.language or self.language or ready.language)
            self.write(sound, sample_rate=ready.voice.sample_rate, out=line.out)
        return True

    def draw(self, lines: Iterable[Line]) -> Iterator[Drawn]:
        """Say each line as one utterance that continues the reference, many at a time."""
        from tts_train_gpt_sovits.voice.takes import TakeLine, draw_takes

        # Takes would be kept as those of the source, whose stage has nothing that learns from codes.
        if self.gpt is not None:
            raise ConfigError(
                f"The GPT is what learns from takes, and {self.source} is a SoVITS. Draw them of the GPT: tts-train "
                f"sample {self.gpt} --sovits {self.source}"
            )
        jobs = [self.of(line) for line in lines]
        ready = self._drawing({job.language for job in jobs})
        asked = []
        for job in jobs:
            reference = ready.reference_for(job.speaker)
            language = job.language or reference.language
            asked.append(TakeLine(text=job.text.strip(), language=language, reference=reference, seed=job.seed))
        yield from draw_takes(ready, asked, sampling=self._sampling(), delivery=self._delivery())

    def drawn_columns(self) -> Mapping[str, str]:
        """Return the columns that the stage ``dpo`` scores a take by."""
        return _TAKE

    def known(self) -> Mapping[str, Any]:
        """Return what is known of the voice's data, and as ``voice`` where they are."""
        from tts_train_gpt_sovits.voice.load import find_pair

        pair = find_pair(self.source, gpt=self.gpt, sovits=self.sovits, version=self.version, voice=self.voice)
        # A whole path: the stage that learns from takes may run in another folder.
        return {**pair.known, **({"voice": str(Path(pair.data).absolute())} if pair.data else {})}

    def _drawing(self, languages: Collection[str | None]) -> Ready:
        """Open what takes need, once for one part of a set after another; anew when the first Chinese text comes."""
        chinese = _has_chinese(languages)
        # What reads Chinese reads all others as well, but is large: it is left out as long as nothing asks for it.
        if chinese not in self._opened and True not in self._opened:
            self._opened.clear()
            self._opened[chinese] = self._open(languages)
        return next(iter(self._opened.values()))

    @cached_property
    def _opened(self) -> dict[bool, Ready]:
        return {}

    def _say(self, ready: Ready) -> SynthReport:
        from tts_train_gpt_sovits.voice.sentences import split_sentences

        sentences = split_sentences(self.text)
        if not sentences:
            raise ConfigError("--text is empty; say what to speak.")
        reference = ready.reference_for(self.speaker)
        language = self.language or reference.language
        said = [ready.front_end.speak(sentence, language) for sentence in sentences]
        spoken = [self._speak(ready.voice, reference, each, number) for number, each in enumerate(said)]
        self._judge(sentences, spoken)
        sound = self._join(spoken, ready.voice.sample_rate)
        self.write(sound, sample_rate=ready.voice.sample_rate)
        figures = {
            "sentences": len(sentences),
            "tokens": sum(each.codes for each in spoken),
            "cut_off": sum(not each.ended for each in spoken),
            "language": language,
            "reference": reference.about,
            "seed": self.seed,
        }
        return SynthReport(path=str(self.out), seconds=round(len(sound) / ready.voice.sample_rate, 3), more=figures)

    def _open(self, languages: Collection[str | None] = (), *, listens: bool = False) -> Ready:
        """Load both networks, and what reads texts in these languages and recordings, once for any number of lines."""
        import torch

        from tts_train.contract import choose_device
        from tts_train_gpt_sovits.preparing.encode import front_end
        from tts_train_gpt_sovits.voice.load import find_pair, open_gpt, open_sovits
        from tts_train_gpt_sovits.voice.voice import GptSovitsVoice, Ready

        self._check()
        device = torch.device(choose_device(self.device))
        pair = find_pair(self.source, gpt=self.gpt, sovits=self.sovits, version=self.version, voice=self.voice)
        sovits, version = open_sovits(pair.sovits, version=self.version, device=device)
        # Griffin and Lim's iterations are for hearing how a training goes, not for speech that is kept.
        if sovits is None:
            raise ConfigError(
                f"{pair.sovits} is {version}, whose sound is made by a vocoder of upstream's. Export it with "
                "--format s2 and speak with upstream's inference."
            )
        # The most frequent language of the data is the one that their reference may be in.
        spoken = {*languages, self.language or self.reference_language, *pair.languages[:1]}
        networks = self._networks(pair, version, device.type, spoken, listens=listens)
        voice = GptSovitsVoice(
            gpt=open_gpt(pair.gpt, device),
            sovits=sovits,
            version=version,
            bert=networks.bert if networks else None,
        )
        given = None
        if self.reference is not None:
            language = self.reference_language or self.language or ""
            given = (self.reference, self.reference_text or "", language)
        return Ready(
            voice=voice,
            front_end=front_end(version),
            networks=networks,
            data=pair.data,
            given=given,
            trained=pair.languages,
        )

    def _check(self) -> None:
        if (self.reference is None) != (self.reference_text is None):
            raise ConfigError("--reference and --reference_text belong together: the recording and what is said in it.")
        if self.reference_text is not None and says_nothing(self.reference_text):
            raise ConfigError(
                f"--reference_text takes what is said in the recording, and {self.reference_text!r} was given."
            )
        if self.reference is not None and self.speaker is not None:
            raise ConfigError(
                f"--reference gives the voice, and --speaker {self.speaker} names one of the training data. "
                "Leave one of them out."
            )
        if self.reference is not None and not self.reference.is_file():
            raise ConfigError(f"--reference {self.reference} is no file.")
        if self.reference is not None and not (self.reference_language or self.language):
            raise ConfigError("Say the language of the recording and the text: --language zh, en, ja, ko or yue.")

    def _networks(
        self, pair: Pair, version: str, device: str, languages: Collection[str | None], *, listens: bool
    ) -> Networks | None:
        """Load what reads recordings and Chinese text, as far as it is needed."""
        from tts_train_gpt_sovits.preparing.encode import networks_on
        from tts_train_gpt_sovits.preparing.models import find_sources
        from tts_train_gpt_sovits.signal.versions import find_version

        listens = listens or self.reference is not None
        # Only Chinese has text features, of a network that others need not load.
        chinese = _has_chinese(languages)
        if not listens and not chinese:
            return None
        # What read the data reads the reference, or its tokens would be those of another network.
        models = self.models or pair.settings.get("models") or "released"
        sources = find_sources(models, version, sovits=pair.settings.get("sovits"))
        return networks_on(sources, device, chinese, listens and find_version(version).speaker)

    def _speak(self, voice: GptSovitsVoice, reference: Reference, said: SpokenText, number: int) -> SpokenSentence:
        # Each sentence has its own seed, so that a change in one changes no other.
        chance = voice.chance(self.seed + number)
        return voice.speak(said, reference, sampling=self._sampling(), delivery=self._delivery(), generator=chance)

    def _sampling(self) -> SamplingOptions:
        from tts_train_gpt_sovits.networks.gpt.generate import MAX_CODES, SamplingOptions

        return SamplingOptions(
            top_k=self.top_k,
            top_p=self.top_p,
            temperature=self.temperature,
            repetition_penalty=self.repetition_penalty,
            max_codes=min(self.max_new_tokens, MAX_CODES),
        )

    def _delivery(self) -> Delivery:
        from tts_train_gpt_sovits.voice.voice import Delivery

        return Delivery(noise_scale=self.noise_scale, speed=self.speed)

    def _judge(self, sentences: Sequence[str], spoken: Sequence[SpokenSentence]) -> None:
        # A file of silence would look like success.
        if not any(each.codes for each in spoken):
            raise DataError(f"Nothing was spoken, and {self.out} was not written. Train longer, or try another --seed.")
        for sentence, each in zip(sentences, spoken, strict=True):
            if not each.codes:
                _log.warning("Nothing was spoken of %r. Try another --seed.", sentence)
            elif not each.ended:
                _log.warning("%r was cut off at --max_new_tokens %d.", sentence, self.max_new_tokens)

    def _join(self, spoken: Sequence[SpokenSentence], rate: int) -> Tensor:
        import torch

        silence = torch.zeros(int(self.pause * rate))
        parts: list[Any] = [part for each in spoken for part in (each.sound, silence)]
        # No pause behind the last sentence.
        return torch.cat(parts[:-1])


def _has_chinese(languages: Collection[str | None]) -> bool:
    return any(language and language.lower().startswith(("zh", "cmn")) for language in languages)
